// The loader: the same bytes for any number of workers, resume, bounded slots, bad samples, failing workers, clean ends.
// Worker threads run the compiled dist/data/worker.js, so build first.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  ArrayDataset,
  BadSampleError,
  cached,
  createLoader,
  type Dataset,
  dinoViews,
  evalViews,
  type LoaderOptions,
  openDataset,
  type RawBatch,
  sharedBytes,
  sharedInts,
  subset,
  verifyDataset,
} from "../src/data/index.js";

const SIDE = 20;

/** `count` random RGB images with labels. */
function images(count: number): ArrayDataset {
  const pixels = sharedBytes(count * SIDE * SIDE * 3);
  let state = 1;
  for (let i = 0; i < pixels.length; i++) {
    state = (Math.imul(state, 1103515245) + 12345) | 0;
    pixels[i] = state >>> 16;
  }
  const labels = sharedInts(Array.from({ length: count }, (_, i) => i % 3));
  return new ArrayDataset({ name: "random", width: SIDE, height: SIDE, channels: 3, pixels, labels, classes: ["a", "b", "c"] });
}

const plan = dinoViews({ globalSize: 16, localSize: 8, locals: 3 });

/** A batch as one comparable string, and released. */
function take(batch: RawBatch): string {
  const parts = Object.entries(batch.views).map(
    ([name, { shape, data }]) => `${name} ${shape} ${Buffer.from(data).toString("base64")}`,
  );
  const text = [batch.epoch, batch.batch, batch.index, batch.labels, ...parts].join("\n");
  batch.release();
  return text;
}

async function collect(options: LoaderOptions, epochs: [epoch: number, from?: number][]): Promise<string[]> {
  const loader = createLoader(options);
  const batches: string[] = [];
  for (const [epoch, from] of epochs) {
    for await (const batch of loader.epoch(epoch, from)) batches.push(take(batch));
  }
  await loader.close();
  return batches;
}

describe("determinism", () => {
  it("makes the same bytes with 0, 1 and 3 workers, in two epochs", async () => {
    const base = { dataset: images(53), plan, batchSize: 8, seed: 5 };
    const expected = await collect({ ...base, workers: 0 }, [[0], [1]]);
    expect(expected).toHaveLength(12);
    expect(new Set(expected).size).toBe(12);
    for (const workers of [1, 3]) expect(await collect({ ...base, workers }, [[0], [1]])).toEqual(expected);
  });

  it("depends on the seed", async () => {
    const base = { dataset: images(16), plan, batchSize: 8, workers: 0 };
    expect(await collect({ ...base, seed: 1 }, [[0]])).not.toEqual(await collect({ ...base, seed: 2 }, [[0]]));
  });

  it("goes on from any batch as if it had never stopped", async () => {
    const base = { dataset: images(40), plan, batchSize: 8, seed: 9 };
    const whole = await collect({ ...base, workers: 0 }, [[2], [3]]);
    for (const workers of [0, 2]) {
      expect(await collect({ ...base, workers, startAt: { epoch: 2, batch: 3 } }, [[2], [3]])).toEqual(whole.slice(3));
      expect(await collect({ ...base, workers }, [[2, 3], [3]])).toEqual(whole.slice(3));
    }
  });

  it("can jump about and leave epochs early", async () => {
    const base = { dataset: images(40), plan, batchSize: 8, seed: 9 };
    const whole = await collect({ ...base, workers: 0 }, [[0], [1]]);
    const loader = createLoader({ ...base, workers: 2, prefetch: 3 });
    for (let round = 0; round < 20; round++) {
      const epoch = round % 2;
      const from = (round * 3) % 5;
      for await (const batch of loader.epoch(epoch, from)) {
        expect(take(batch)).toBe(whole[epoch * 5 + from]);
        break;
      }
    }
    await loader.close();
  });

  it("visits every sample once an epoch, in an order of its own, and keeps the order without shuffling", async () => {
    const base = {
      dataset: images(30),
      plan: evalViews({ size: 16, resize: "exact" }),
      batchSize: 8,
      workers: 2,
      dropLast: false,
    };
    const orders: number[][] = [];
    const loader = createLoader(base);
    for (const epoch of [0, 1]) {
      const seen: number[] = [];
      for await (const batch of loader.epoch(epoch)) {
        seen.push(...batch.index);
        expect([...batch.labels!]).toEqual([...batch.index].map((i) => i % 3));
        expect(batch.views.image!.shape).toEqual([1, batch.index.length, 3, 16, 16]);
        expect(batch.views.image!.data.length).toBe(batch.index.length * 3 * 256);
        batch.release();
      }
      expect([...seen].sort((a, b) => a - b)).toEqual(Array.from({ length: 30 }, (_, i) => i));
      orders.push(seen);
    }
    await loader.close();
    expect(orders[0]).not.toEqual(orders[1]);
    const plain = createLoader({ ...base, shuffle: false });
    const seen: number[] = [];
    for await (const batch of plain.epoch(7)) {
      seen.push(...batch.index);
      batch.release();
    }
    await plain.close();
    expect(seen).toEqual(Array.from({ length: 30 }, (_, i) => i));
  });
});

describe("slots", () => {
  it("lie in shared memory, are bounded, and say so when none is given back", async () => {
    for (const workers of [0, 1]) {
      const loader = createLoader({ dataset: images(64), plan, batchSize: 8, workers, prefetch: 2 });
      const held: RawBatch[] = [];
      const reading = (async () => {
        for await (const batch of loader.epoch(0)) held.push(batch);
      })();
      await expect(reading).rejects.toThrow(/All 3 batches of the loader are in use; call release\(\)/);
      expect(held).toHaveLength(3);
      const buffers = held.map((batch) => batch.views.global!.data.buffer);
      expect(buffers.every((buffer) => buffer instanceof SharedArrayBuffer)).toBe(true);
      expect(new Set(buffers).size).toBe(3);
      await loader.close();
    }
  });

  it("reads on while some are held, and leaves held bytes alone", async () => {
    const loader = createLoader({ dataset: images(64), plan, batchSize: 8, workers: 2, prefetch: 2 });
    let first: RawBatch | undefined;
    let copy: Buffer | undefined;
    for await (const batch of loader.epoch(0)) {
      if (first) batch.release();
      else {
        first = batch;
        copy = Buffer.from(batch.views.local!.data);
      }
    }
    expect(Buffer.compare(Buffer.from(first!.views.local!.data), copy!)).toBe(0);
    await loader.close();
  });
});

describe("ends", () => {
  const entry = fileURLToPath(new URL("../dist/data/index.js", import.meta.url));

  it("close in the middle of an epoch, while a batch is waited for, and twice", async () => {
    const loader = createLoader({ dataset: images(64), plan, batchSize: 8, workers: 3 });
    const batches = loader.epoch(0);
    await batches.next();
    await loader.close();
    await loader.close();
    await expect(batches.next()).rejects.toThrow(/closed/);
    const other = createLoader({ dataset: images(64), plan, batchSize: 8, workers: 1 });
    const waiting = expect(other.epoch(0).next()).rejects.toThrow(/closed/);
    await other.close();
    await waiting;
  });

  it.each([
    ["closed", "await loader.close();"],
    ["forgotten", ""],
  ])("lets the process end when it is %s", (_, end) => {
    const program = `
      import { ArrayDataset, createLoader, dinoViews, sharedBytes } from ${JSON.stringify(`file://${entry}`)};
      const dataset = new ArrayDataset({ name: "x", width: 8, height: 8, channels: 1, pixels: sharedBytes(6400) });
      const loader = createLoader({ dataset, plan: dinoViews({ channels: 1, globalSize: 8, locals: 0 }), batchSize: 4, workers: 2 });
      for await (const batch of loader.epoch(0)) { console.log(batch.views.global.shape.join()); break; }
      ${end}`;
    const out = execFileSync(process.execPath, ["--input-type=module", "-e", program], { timeout: 300_000 });
    expect(out.toString().trim()).toBe("2,4,1,8,8");
  });
});

describe("failures", () => {
  const module = new URL("fixtures/data-custom.mjs", import.meta.url).href;

  /** A dataset of a user's own kind; workers import the module, this thread only needs the outside. */
  function custom(behaviour: string, length = 32): Dataset {
    return {
      name: "custom",
      length,
      spec: { kind: "custom", module, payload: { behaviour, length } },
      label: () => undefined,
      path: (index) => `custom#${index}`,
      read: () => {
        throw new Error("not in this thread");
      },
    };
  }
  const read = async (dataset: Dataset, workers = 2): Promise<number> => {
    const loader = createLoader({ dataset, plan, batchSize: 4, workers });
    let count = 0;
    try {
      for await (const batch of loader.epoch(0)) {
        count += batch.index.length;
        batch.release();
      }
    } finally {
      await loader.close();
    }
    return count;
  };

  it("runs a user's own dataset in workers", async () => {
    expect(await read(custom("fine"))).toBe(32);
  });

  it.each([
    ["throws", /custom failed to read sample \d+: the disk is on fire/],
    ["rejects", /custom failed to read sample \d+: the disk is on fire/],
    ["exits", /A data worker stopped unexpectedly \(exit code 3\)/],
    ["crashes", /A data worker failed: thrown from nowhere/],
    ["unopenable", /cannot be opened today/],
  ])("turns a worker that %s into an error", async (behaviour, message) => {
    await expect(read(custom(behaviour))).rejects.toThrow(message);
  });

  it("says what is wrong with a module that is not there or exports nothing", async () => {
    const missing = { ...custom("fine"), spec: { kind: "mine", module: "file:///nowhere/mine.mjs", payload: 0 } };
    await expect(read(missing)).rejects.toThrow(
      /The module of dataset kind "mine", file:\/\/\/nowhere\/mine.mjs, cannot be loaded/,
    );
    const empty = { ...custom("fine"), spec: { kind: "mine", module: "node:path", payload: 0 } };
    await expect(read(empty)).rejects.toThrow(/does not export restoreDataset/);
    const none = { ...custom("fine"), spec: { kind: "mine", payload: 0 } };
    await expect(read(none)).rejects.toThrow(/names no module/);
    const unclonable = { ...custom("fine"), spec: { kind: "mine", payload: () => 0 } };
    await expect(read(unclonable)).rejects.toThrow(/cannot be given to a worker thread/);
  });

  it("reports a dataset's own error without workers too", async () => {
    await expect(read(custom("fine"), 0)).rejects.toThrow(/custom failed to read sample \d+: not in this thread/);
  });

  it("refuses options that make no sense", () => {
    const dataset = images(8);
    expect(() => createLoader({ dataset, plan, batchSize: 9 })).toThrow(/less than one batch of 9/);
    expect(() => createLoader({ dataset, plan, batchSize: 0 })).toThrow(/batchSize is 0/);
    expect(() => createLoader({ dataset, plan, batchSize: 4, prefetch: 0 })).toThrow(/prefetch is 0/);
    expect(() => createLoader({ dataset, plan: { ...plan, views: [] }, batchSize: 4 })).toThrow(/no views/);
  });

  it("names the sizes when an image does not fit the view", async () => {
    const loader = createLoader({
      dataset: images(8),
      plan: { ...plan, views: [{ name: "x", size: [16, 16], crops: [[]] }] },
      batchSize: 4,
      workers: 1,
    });
    await expect(loader.epoch(0).next()).rejects.toThrow(/An image of 20x20 does not fit a view of 16x16; add resize/);
    await loader.close();
  });
});

describe("bad samples", () => {
  let root = "";
  beforeAll(async () => {
    root = mkdtempSync(join(tmpdir(), "tessera-bad-"));
    for (let i = 0; i < 24; i++) {
      const noise = { type: "gaussian" as const, mean: 30 + 8 * i, sigma: 20 };
      const file = sharp({ create: { width: 32, height: 24, channels: 3, background: "#000", noise } });
      await file.jpeg().toFile(join(root, `good${String(i).padStart(2, "0")}.jpg`));
    }
    writeFileSync(join(root, "bad-empty.jpg"), "");
    writeFileSync(join(root, "bad-text.png"), "hello");
    symlinkSync("/nowhere/at/all.jpg", join(root, "bad-link.jpg"));
  });
  afterAll(() => rmSync(root, { recursive: true }));

  it("are replaced by the same samples for any number of workers, and counted once", async () => {
    const dataset = await openDataset(`folder:${root}`);
    expect(dataset.length).toBe(27);
    const results: string[][] = [];
    for (const workers of [0, 1, 3]) {
      const loader = createLoader({ dataset, plan, batchSize: 9, seed: 3, workers, maxBadShare: 0.5 });
      const batches: string[] = [];
      for (const epoch of [0, 1, 2]) {
        for await (const batch of loader.epoch(epoch)) {
          expect([...batch.index].every((i) => dataset.path(i).includes("good"))).toBe(true);
          batches.push(take(batch));
        }
      }
      const { count, seen, share, files } = loader.bad;
      expect({ count, seen, share }).toEqual({ count: 3, seen: 27, share: 3 / 27 });
      expect(files.map(({ path, reason }) => `${path.slice(root.length + 1)}: ${reason}`).sort()).toEqual([
        "bad-empty.jpg: it is empty (0 bytes)",
        "bad-link.jpg: there is no such file (or a link to nothing)",
        "bad-text.png: it is not an image in a known format",
      ]);
      await loader.close();
      results.push(batches);
    }
    expect(results[1]).toEqual(results[0]);
    expect(results[2]).toEqual(results[0]);
  });

  it("end the run above the set share, at the same batch for any number of workers", async () => {
    const dataset = await openDataset(`folder:${root}`);
    const counts: number[] = [];
    for (const workers of [0, 2]) {
      const loader = createLoader({ dataset, plan, batchSize: 3, workers, minBadCount: 2, maxBadShare: 0.05 });
      let delivered = 0;
      const reading = (async () => {
        for await (const batch of loader.epoch(0)) {
          delivered++;
          batch.release();
        }
      })();
      await expect(reading).rejects.toThrow(
        /[23] of the first \d+ samples of folder:\S+ cannot be used, \d+\.\d %, and at most 5 % may be bad: \S+bad-\S+ \(.*tessera data verify/,
      );
      counts.push(delivered);
      await loader.close();
    }
    expect(counts[1]).toBe(counts[0]);
  });

  it("end the run when nothing is left to replace them", async () => {
    const broken: Dataset = {
      name: "broken",
      length: 8,
      spec: { kind: "x", payload: 0 },
      label: () => undefined,
      path: (i) => `${i}`,
      read: () => {
        throw new BadSampleError("torn");
      },
    };
    const loader = createLoader({ dataset: broken, plan, batchSize: 4, workers: 0 });
    await expect(loader.epoch(0).next()).rejects.toThrow(/is bad \(torn\), and so are 64 other samples of broken/);
    expect((await verifyDataset(broken)).bad.map(({ index }) => index)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  it("make the same bytes from a cache, with or without room", async () => {
    const dataset = subset(await openDataset(`folder:${root}`), 20, 1);
    const base = { plan, batchSize: 5, seed: 1, maxBadShare: 0.5 };
    const epochs: [number][] = [[0], [1], [2]];
    const expected = await collect({ ...base, dataset, workers: 0 }, epochs);
    for (const bytes of [1 << 20, 6000, 0]) {
      for (const workers of [0, 3]) {
        expect(await collect({ ...base, dataset: cached(dataset, bytes), workers }, epochs)).toEqual(expected);
      }
    }
  });
});
