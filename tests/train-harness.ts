// What the tests of training share: a run that takes a second, and what it leaves behind.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import type { MethodOptions } from "../src/methods/index.js";
import { readSafetensors, readSafetensorsHeader, type Tensor, tidy } from "../src/torch/index.js";
import type { MetricsLine, RecipeInput } from "../src/train/index.js";
import { writeTinyFashionMnist } from "./cli-harness.js";

/** A folder that `remove` takes away, with images as Fashion-MNIST has them in data/. */
export function trainingGround(): { folder: string; data: string; remove(): void } {
  const folder = mkdtempSync(join(tmpdir(), "tessera-train-"));
  const data = join(folder, "data");
  mkdirSync(data);
  writeTinyFashionMnist(data, { train: 200, test: 40 });
  return { folder, data: `fashion-mnist:${data}`, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

const crops = { globalSize: 28, locals: 2, localSize: 14, blur: [0, 0, 0] as [number, number, number] };
const head = { outFeatures: 16, hidden: 32, bottleneck: 8 };

/** A tiny ViT and everything that chance has a hand in: drop path, masks, batch norm, accumulated batches. One thread. */
export function tinyRecipe(data: string, changes: Partial<RecipeInput> = {}) {
  return {
    data: { train: data },
    model: { patchSize: 7, width: 32, depth: 2, heads: 2, dropPath: 0.3 },
    method: { name: "mst", decoderWidth: 16, decoderNarrowest: 8, dino: { crops, head: { ...head, batchNorm: true } } },
    optimizer: { warmupEpochs: 0.5 },
    ...changes,
    train: { epochs: 2, batchSize: 8, accumulate: 2, workers: 0, logEvery: 1, threads: 1, ...changes.train },
  } satisfies RecipeInput;
}

/** The same without anything that depends on the other images of a batch; `options` are DINO's. */
export function tinyDino(
  data: string,
  changes: Partial<RecipeInput> = {},
  { normLastLayer = true, ...options }: MethodOptions["dino"] & { normLastLayer?: boolean } = {},
) {
  const model = { patchSize: 7, width: 32, depth: 2, heads: 2 };
  const method = { name: "dino" as const, crops, head: { ...head, normLastLayer }, freezeLastLayer: 0, ...options };
  return tinyRecipe(data, { model, method, ...changes });
}

/** Lines of metrics.jsonl without what the clock decides. */
export function timeless(out: string): Omit<MetricsLine, "imagesPerSecond" | "dataWait" | "seconds">[] {
  return readLines(out).map(({ imagesPerSecond: _, dataWait: __, seconds: ___, ...line }) => line as MetricsLine);
}

export function readLines(out: string): MetricsLine[] {
  const text = readFileSync(join(out, "metrics.jsonl"), "utf8");
  return text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as MetricsLine);
}

/** Names of the files of a run's folder, all the way down, sorted. */
export function filesOf(out: string): string[] {
  return readdirSync(out, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(out.length + 1))
    .sort();
}

/** Names of the tensors that are not the same to the last bit in two safetensors files; those that only one file has, too. */
export function differingTensors(a: string, b: string): string[] {
  return tidy(() => {
    const [left, right] = [readSafetensors(a).tensors, readSafetensors(b).tensors];
    return [...new Set([...left.keys(), ...right.keys()])].filter((name) => {
      const [one, other] = [left.get(name), right.get(name)];
      return !one || !other || one.dtype !== other.dtype || Buffer.compare(bytesOf(one), bytesOf(other)) !== 0;
    });
  });
}

function bytesOf(tensor: Tensor): Buffer {
  const bits = tensor.bits();
  return Buffer.from(bits.buffer, bits.byteOffset, bits.byteLength);
}

/** Two runs left the same: checkpoints, weights, log, pictures. Only the clock's numbers may differ. */
export function expectSameRun(one: string, other: string): void {
  expect(timeless(one)).toEqual(timeless(other));
  const files = filesOf(other);
  expect(filesOf(one)).toEqual(files);
  for (const file of files.filter((name) => name.endsWith(".safetensors"))) {
    expect(differingTensors(join(one, file), join(other, file)), file).toEqual([]);
    expect(readSafetensorsHeader(join(one, file)).metadata, file).toEqual(readSafetensorsHeader(join(other, file)).metadata);
  }
  for (const file of files.filter((name) => name.endsWith(".png"))) {
    expect(Buffer.compare(readFileSync(join(one, file)), readFileSync(join(other, file))), file).toBe(0);
  }
}

/** Of all values of the tensors of two files with the same names. */
export function largestDifference(a: string, b: string): number {
  return tidy(() => {
    const other = readSafetensors(b).tensors;
    const floating = [...readSafetensors(a).tensors].filter(([, tensor]) => tensor.dtype === "float32");
    return Math.max(...floating.map(([name, tensor]) => Math.max(...tensor.sub(other.get(name)!).abs().flatten().toArray())));
  });
}
