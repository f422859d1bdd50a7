// The detection loader: the same batches for any number of workers and after a resume; boxes and masks that fit what is shown.
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  type CocoDataset,
  createDetectionLoader,
  type DetectionLoaderOptions,
  type DetectionPlan,
  type DetectionSampleBytes,
  detectionPlan,
  detectionTensors,
  type RawDetectionBatch,
  readCoco,
} from "../src/data/index.js";
import { detectionPicture } from "../src/evaluate/index.js";
import { memoryStats, tidy } from "../src/torch/index.js";
import { collectGarbage } from "./garbage.js";

let root = "";
let data: CocoDataset;
const categories = [
  { id: 3, name: "square" },
  { id: 8, name: "crowd" },
  { id: 9, name: "unused" },
];

/** Black images with a white square; its annotation as a polygon, and a crowd in the left top corner as run lengths. */
beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), "tessera-detection-"));
  mkdirSync(join(root, "images"));
  const [images, annotations] = [[], []] as [object[], object[]];
  for (let i = 0; i < 9; i++) {
    const [width, height] = i % 2 === 0 ? [40 + i, 30] : [24, 36 + i];
    const [x, y, side] = [6 + i, 8, 12];
    const pixels = Buffer.alloc(width * height);
    for (let row = y; row < y + side; row++) pixels.fill(255, row * width + x, row * width + Math.min(width, x + side));
    const raw = { width, height, channels: 1 as const };
    const image = sharp(pixels, { raw });
    await (i === 4 ? image.toColourspace("b-w") : image.toColourspace("srgb")).png().toFile(join(root, "images", `${i}.png`));
    images.push({ id: 100 + i, file_name: `${i}.png`, width, height });
    if (i === 7) continue; // no objects
    const segmentation = [[x, y, x + side, y, x + side, y + side, x, y + side]];
    annotations.push({ id: 2 * i + 1, image_id: 100 + i, category_id: 3, bbox: [x, y, side, side], segmentation });
    const crowd = { size: [height, width], counts: [0, 4, height - 4, 4, height * width - height - 4] };
    annotations.push({ id: 2 * i + 2, image_id: 100 + i, category_id: 8, bbox: [0, 0, 2, 4], iscrowd: 1, segmentation: crowd });
  }
  writeFileSync(join(root, "ann.json"), JSON.stringify({ images, annotations, categories }));
  data = await readCoco(join(root, "ann.json"), join(root, "images"));
});
afterAll(() => rmSync(root, { recursive: true }));

const plain = detectionPlan({ resize: { shorter: [64], longest: 200 } });
const multi = detectionPlan({ resize: { shorter: [20, 30, 47], longest: 60 }, flip: 0.5 });
const jitter = detectionPlan({ resize: { jitter: [0.3, 2.5], size: [48, 40] }, flip: 0.5 });

async function batches(options: Partial<DetectionLoaderOptions> & { plan: DetectionPlan }, epochs = [0], from?: number) {
  const all: RawDetectionBatch[] = [];
  await using loader = createDetectionLoader({ dataset: data, batchSize: 2, workers: 0, ...options });
  for (const epoch of epochs) for await (const batch of loader.epoch(epoch, from)) all.push(batch);
  return all;
}

/** Everything in batches, each array as its digest. */
const bytes = (all: readonly RawDetectionBatch[]) =>
  all.map(({ epoch, batch, samples }) => ({
    epoch,
    batch,
    samples: samples.map((sample) =>
      Object.entries(sample).map(([name, value]) => {
        if (!ArrayBuffer.isView(value)) return [name, value];
        const memory = Buffer.from(value.buffer as ArrayBuffer, value.byteOffset, value.byteLength);
        return [name, createHash("sha256").update(memory).digest("hex")];
      }),
    ),
  }));

/** Left, top, right, bottom around the values above a threshold. */
function around(values: Uint8Array, [height, width]: readonly [number, number], above: number): number[] {
  const inside = [...values.keys()].filter((i) => values[i]! > above);
  const [xs, ys] = [inside.map((i) => i % width), inside.map((i) => Math.floor(i / width))];
  return height > 0 ? [Math.min(...xs), Math.min(...ys), Math.max(...xs) + 1, Math.max(...ys) + 1] : [];
}

function maskOf(sample: DetectionSampleBytes, i: number): Uint8Array {
  const plane = sample.size[0] * sample.size[1];
  return sample.masks.subarray(i * plane, (i + 1) * plane);
}

describe("the detection loader", () => {
  it("gives the same bytes for any number of workers, and from any position", async () => {
    for (const plan of [multi, jitter]) {
      const alone = await batches({ plan, seed: 5 }, [0, 1]);
      expect(alone).toHaveLength(8);
      expect(bytes(await batches({ plan, seed: 5, workers: 3, prefetch: 3 }, [0, 1]))).toEqual(bytes(alone));
      const resumed = await batches({ plan, seed: 5, workers: 2, startAt: { epoch: 1, batch: 2 } }, [1]);
      expect(bytes(resumed)).toEqual(bytes(alone.slice(6)));
      expect(bytes(await batches({ plan, seed: 5, workers: 1 }, [1], 3))).toEqual(bytes(alone.slice(7)));
    }
  });

  it("shuffles by seed and epoch, and goes through every image once", async () => {
    const order = (all: RawDetectionBatch[]) => all.flatMap(({ samples }) => samples.map(({ imageId }) => imageId));
    const [first, second] = [
      order(await batches({ plan: plain, dropLast: false }, [0])),
      order(await batches({ plan: plain, dropLast: false }, [1])),
    ];
    expect(new Set(first).size).toBe(9);
    expect(first).not.toEqual(second);
    expect(order(await batches({ plan: plain, dropLast: false, seed: 1 }))).not.toEqual(first);
    expect(order(await batches({ plan: plain, shuffle: false }))).toEqual([100, 101, 102, 103, 104, 105, 106, 107, 108]);
  });

  it("puts images of one shape into a batch when it shuffles", async () => {
    const wide = ({ size: [h, w] }: DetectionSampleBytes) => w > h;
    const mixed = (all: RawDetectionBatch[]) =>
      all.filter(({ samples }) => new Set(samples.map(wide)).size > 1).map(({ batch }) => batch);
    const all = await batches({ plan: plain, dropLast: false }, [0]);
    expect(new Set(all.flatMap(({ samples }) => samples.map(({ index }) => index))).size).toBe(9);
    // Five wide and four tall ones: each shape makes whole batches but for one image.
    expect(mixed(all)).toEqual([]);
    expect(mixed(await batches({ plan: plain, dropLast: false, shuffle: false }, [0]))).toEqual([0, 1, 2, 3]);
    const three = await batches({ plan: plain, dropLast: false, batchSize: 3 }, [0, 1, 2]);
    expect(three.map(({ samples }) => samples.length)).toEqual(Array(9).fill(3));
    expect(mixed(three)).toEqual([2, 2, 2]);
  });

  it("can leave an epoch early and read another, with workers", async () => {
    await using loader = createDetectionLoader({ dataset: data, batchSize: 2, plan: multi, workers: 2 });
    for await (const batch of loader.epoch(0)) if (batch.batch === 1) break;
    const again: RawDetectionBatch[] = [];
    for await (const batch of loader.epoch(3)) again.push(batch);
    expect(bytes(again)).toEqual(bytes(await batches({ plan: multi }, [3])));
  });

  it("resizes to the shorter side, at most to the longest", async () => {
    const [batch] = await batches({
      plan: detectionPlan({ resize: { shorter: [60], longest: 70 } }),
      shuffle: false,
      batchSize: 9,
    });
    for (const [i, { size, original, index }] of batch!.samples.entries()) {
      expect([index, original]).toEqual([i, data.size(i)]);
      const scale = Math.min(60 / Math.min(...original), 70 / Math.max(...original));
      expect(size).toEqual(original.map((side) => Math.round(side * scale)));
    }
  });

  it("shows objects where their boxes and masks are, flipped, cut or not", async () => {
    const seen = { flipped: 0, cut: 0, gone: 0, whole: 0 };
    for (const plan of [plain, multi, jitter]) {
      const all = await batches({ plan, dropLast: false }, [0, 1, 2, 3, 4, 5]);
      for (const sample of all.flatMap(({ samples }) => samples)) {
        const { size, pixels, boxes, labels, crowd, original } = sample;
        const count = labels.length;
        expect([boxes.length, crowd.length, sample.masks.length]).toEqual([4 * count, count, count * size[0] * size[1]]);
        if (!labels.includes(0)) seen.gone++;
        for (let i = 0; i < count; i++) {
          const box = [...boxes.subarray(4 * i, 4 * i + 4)];
          const mask = around(maskOf(sample, i), size, 0);
          for (const [k, side] of mask.entries()) expect(Math.abs(side - box[k]!)).toBeLessThanOrEqual(1.01);
          if (labels[i] !== 0) continue;
          expect(crowd[i]).toBe(0);
          // The white square itself: the picture is resampled, so its edge may be one or two pixels off.
          const white = around(pixels.subarray(0, size[0] * size[1]), size, 127);
          for (const [k, side] of white.entries()) expect(Math.abs(side - box[k]!)).toBeLessThanOrEqual(2.01);
          const scale = size[0] / original[0];
          if (plan !== jitter) {
            const left = 6 + sample.index;
            const right = Math.min(original[1], left + 12);
            const sx = size[1] / original[1];
            const mirrored = Math.abs(box[0]! - (original[1] - right) * sx) < 0.01;
            if (mirrored && Math.abs(box[0]! - left * sx) > 0.01) seen.flipped++;
            expect(mirrored || Math.abs(box[0]! - left * sx) < 0.01).toBe(true);
            expect(box[1]).toBeCloseTo(8 * scale, 4);
            seen.whole++;
          } else if (box.includes(0) || box[2] === size[1] || box[3] === size[0]) seen.cut++;
        }
      }
    }
    for (const count of Object.values(seen)) expect(count).toBeGreaterThan(3);
  });

  it("gives crowds marked, and images without objects", async () => {
    const all = (await batches({ plan: plain, shuffle: false })).flatMap(({ samples }) => samples);
    expect(all.map(({ labels }) => [...labels])).toEqual([...Array(7).fill([0, 1]), [], [0, 1]]);
    expect([...all[0]!.crowd]).toEqual([0, 1]);
    const [batch] = await batches({ plan: plain, shuffle: false, dataset: data.pick([7]) });
    const { images, samples } = detectionTensors(batch!, plain);
    const [sample] = samples;
    expect(images.shape).toEqual([1, 3, 128, 64]);
    expect([sample!.boxes.shape, sample!.labels.shape, sample!.crowd.shape]).toEqual([[0, 4], [0], [0]]);
    expect(sample!.masks.shape).toEqual([0, ...sample!.size]);
  });

  it("makes tensors of batches: normalised, padded with zeros, nothing left over", async () => {
    const [batch] = await batches({ plan: plain, shuffle: false });
    collectGarbage();
    const before = memoryStats().handles;
    tidy(() => {
      const { images, samples } = detectionTensors(batch!, plain);
      const [a, b] = samples;
      expect([a!.size, b!.size]).toEqual([
        [64, 85],
        [99, 64],
      ]);
      expect(images.shape).toEqual([2, 3, 128, 96]);
      expect([a!.boxes.dtype, a!.labels.dtype, a!.masks.dtype, a!.crowd.dtype]).toEqual(["float32", "int64", "uint8", "bool"]);
      expect([a!.boxes.shape, a!.masks.shape]).toEqual([
        [2, 4],
        [2, 64, 85],
      ]);
      const values = images.toArray();
      const at = (c: number, y: number, x: number) => values[(c * 128 + y) * 96 + x]!;
      const { mean, std } = plain;
      for (let c = 0; c < 3; c++) {
        expect(at(c, 0, 0)).toBeCloseTo(-mean[c]! / std[c]!, 5);
        expect(at(c, 30, 25)).toBeCloseTo((1 - mean[c]!) / std[c]!, 5);
        expect([at(c, 64, 0), at(c, 0, 85), at(c, 127, 95)]).toEqual([0, 0, 0]);
      }
    });
    expect(memoryStats().handles).toBe(before);
    const [jittered] = await batches({ plan: jitter });
    expect(tidy(() => detectionTensors(jittered!, jitter).images.shape)).toEqual([2, 3, 64, 64]);
  });

  it("leaves masks out when the plan says so", async () => {
    const [batch] = await batches({ plan: detectionPlan({ resize: plain.resize, masks: false }), shuffle: false });
    expect(batch!.samples.map(({ masks, labels }) => [masks.length, labels.length])).toEqual([
      [0, 2],
      [0, 2],
    ]);
    expect(tidy(() => detectionTensors(batch!, plain).samples[0]!.masks.shape)).toEqual([0, 64, 85]);
  });
});

describe("odd objects", () => {
  async function only(bbox: number[], segmentation?: unknown, plan = plain): Promise<DetectionSampleBytes> {
    const path = join(root, "odd.json");
    const images = [{ id: 1, file_name: "0.png", width: 40, height: 30 }];
    const annotation = { id: 1, image_id: 1, category_id: 3, bbox, ...(segmentation !== undefined && { segmentation }) };
    writeFileSync(path, JSON.stringify({ images, annotations: [annotation], categories }));
    const dataset = await readCoco(path, join(root, "images"));
    const [batch] = await batches({ dataset, plan, batchSize: 1 });
    return batch!.samples[0]!;
  }
  const ones = (mask: Uint8Array) => mask.reduce((sum, value) => sum + value, 0);

  it("boxes that reach out of the image are cut, those outside or without area are left out", async () => {
    const shown = await only([-10, -10, 20, 20]);
    expect([...shown.boxes]).toEqual([0, 0, Math.fround((10 * shown.size[1]) / 40), Math.fround((10 * 64) / 30)]);
    for (const box of [
      [40, 0, 5, 5],
      [0, 30, 5, 5],
      [-8, 0, 8, 5],
      [5, 5, 0, 4],
    ]) {
      expect((await only(box)).labels).toHaveLength(0);
    }
  });

  it("an object without a mask has its box for one", async () => {
    const shown = await only([10, 10, 10, 10]);
    expect(around(shown.masks, shown.size, 0)).toEqual([...shown.boxes].map(Math.round));
  });

  it("a mask of one pixel, enlarged or too small to be seen, has at least one", async () => {
    const pixel = [[10, 10, 11, 10, 11, 11, 10, 11]];
    expect(ones((await only([10, 10, 1, 1], pixel)).masks)).toBeGreaterThanOrEqual(4);
    const small = detectionPlan({ resize: { shorter: [5], longest: 100 } });
    for (let x = 0; x < 12; x++) {
      const shown = await only([x, 10, 1, 1], [[x, 10, x + 1, 10, x + 1, 11, x, 11]], small);
      expect(ones(shown.masks)).toBe(1);
    }
    const rle = { size: [30, 40], counts: [10 * 30 + 10, 1, 1200 - 311] };
    expect(ones((await only([10, 10, 1, 1], rle, small)).masks)).toBe(1);
  });
});

describe("bad images", () => {
  async function withBad(): Promise<CocoDataset> {
    writeFileSync(join(root, "images", "cut.png"), "no image");
    const images = Array.from({ length: 12 }, (_, i) => ({
      id: i,
      file_name: i === 5 ? "cut.png" : i === 8 ? "lost.png" : i === 2 ? "1.png" : "0.png",
      width: 40,
      height: 30,
    }));
    const annotations = images.map(({ id }) => ({ id: id + 1, image_id: id, category_id: 3, bbox: [1, 1, 9, 9] }));
    writeFileSync(join(root, "bad.json"), JSON.stringify({ images, annotations, categories }));
    return readCoco(join(root, "bad.json"), join(root, "images"));
  }

  it("are replaced in training, the same for any number of workers, and counted", async () => {
    const dataset = await withBad();
    const options = { dataset, plan: multi, seed: 2, minBadCount: 4 };
    const alone = await batches(options, [0, 1]);
    expect(alone.every(({ samples }) => samples.length === 2)).toBe(true);
    expect(alone.flatMap(({ samples }) => samples.map(({ index }) => index)).some((i) => [2, 5, 8].includes(i))).toBe(false);
    expect(bytes(await batches({ ...options, workers: 3 }, [0, 1]))).toEqual(bytes(alone));
  });

  it("are left out of evaluation, and counted", async () => {
    const dataset = await withBad();
    for (const workers of [0, 2]) {
      await using loader = createDetectionLoader({ dataset, plan: plain, batchSize: 1, shuffle: false, workers, maxBadShare: 1 });
      const seen: number[] = [];
      for await (const { samples } of loader.epoch(0)) seen.push(...samples.map(({ index }) => index));
      expect(seen).toEqual([0, 1, 3, 4, 6, 7, 9, 10, 11]);
      expect(loader.bad.files.map(({ index, reason }) => [index, reason])).toEqual([
        [2, "it is 24x37 px, but its annotations are for 40x30"],
        [5, expect.stringMatching(/not an image/)],
        [8, expect.stringMatching(/no such file/)],
      ]);
    }
  });

  it("end the run when they are too many", async () => {
    const dataset = await withBad();
    for (const workers of [0, 1]) {
      await expect(batches({ dataset, plan: plain, workers, minBadCount: 2 }, [0])).rejects.toThrow(
        /samples of .* cannot be used/,
      );
    }
  });
});

describe("pictures", () => {
  it("show the truth and what was found, of colour and of grey images", async () => {
    for (const index of [0, 4, 7]) {
      const [height, width] = data.size(index);
      const found = { image_id: data.imageId(index), category_id: 3, bbox: [2, 3, 9, 9], score: 0.9 };
      const segmentation = { size: [height, width], counts: [0, height * width] };
      const others = [
        { ...found, score: 0.2 },
        { ...found, image_id: data.imageId(1) },
      ];
      const picture = await detectionPicture(data, index, [{ ...found, segmentation }, ...others]);
      // Both images, three gaps of 6, enlarged by a whole factor.
      const factor = Math.round(320 / Math.max(height, width));
      expect(picture.width).toBe(2 * factor * width + 3 * 6);
      const none = await detectionPicture(data, index, others);
      expect([none.width, none.height]).toEqual([picture.width, picture.height]);
      expect(none.data).not.toEqual(picture.data);
    }
    const wrong = { image_id: data.imageId(0), category_id: 4, bbox: [2, 3, 9, 9], score: 0.9 };
    await expect(detectionPicture(data, 0, [wrong])).rejects.toThrow(/Result 0: its category_id is 4/);
  });
});

describe("refusals", () => {
  it("of plans and options that cannot be", () => {
    const refused = (options: Parameters<typeof detectionPlan>[0], text: RegExp) =>
      expect(() => detectionPlan(options)).toThrow(text);
    refused({ resize: { shorter: [], longest: 100 } }, /shorter is \[\]/);
    refused({ resize: { shorter: [800], longest: 600 } }, /longest is 600; expected at least/);
    refused({ resize: { jitter: [0, 2], size: [8, 8] } }, /jitter is \[0,2\]/);
    refused({ resize: { jitter: [1, 2], size: [8, 0] } }, /size is \[8,0\]/);
    refused({ flip: 2 }, /flip is 2/);
    refused({ divisor: 0 }, /divisor is 0/);
    refused({ normalization: { mean: [0], std: [1] } }, /mean and std have 1 and 1 values/);
    const loader = (options: Partial<DetectionLoaderOptions>) => () =>
      createDetectionLoader({ dataset: data, plan: plain, batchSize: 2, workers: 0, ...options });
    expect(loader({ batchSize: 0 })).toThrow(/batchSize is 0/);
    expect(loader({ batchSize: 10 })).toThrow(/has 9 images, less than one batch of 10/);
    expect(loader({ seed: -1 })).toThrow(/seed is -1/);
  });
});
