// Images and masks from folders: layouts, what is refused, and batches that do not depend on how they are made.
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import {
  createLoader,
  type Dataset,
  type LoaderOptions,
  type OpenOptions,
  openDataset,
  segmentationPlan,
  toPixelTensors,
  verifyDataset,
} from "../src/data/index.js";
import { tidy } from "../src/torch/index.js";
import { shapes, writeColours, writeMask, writeShapes } from "./segmentation-harness.js";

let folder: string;
let n = 0;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "tessera-masks-"));
});
afterAll(() => rmSync(folder, { recursive: true }));
let root: string;
beforeEach(() => {
  root = join(folder, `d${n++}`);
});

const problem = async (spec: string, options: OpenOptions = {}) => {
  const error = await openDataset(spec, options).then(
    () => undefined,
    (error: Error) => error,
  );
  expect(error, "it was opened").toBeDefined();
  expect(error!.name).toBe("DataError");
  return error!.message;
};
const firstProblem = async (dataset: Dataset) => {
  const { bad } = await verifyDataset(dataset);
  expect(bad).toHaveLength(1);
  return bad[0]!;
};

describe("segmentation:DIR", () => {
  it("has images and masks by split, classes by name", async () => {
    await writeShapes(root);
    const train = await openDataset(`segmentation:${root}`);
    expect(train).toMatchObject({ name: `segmentation:${root} (train)`, length: 4, pixelClasses: ["ground", "box", "disc"] });
    expect(train.classes).toBeUndefined();
    const { rgb, labels } = shapes(2, 32, 48);
    const image = await train.read(2);
    expect(image).toMatchObject({ width: 48, height: 32, channels: 3 });
    expect([...image.data]).toEqual([...rgb]);
    expect([...image.labels!]).toEqual([...labels]);
    const val = await openDataset(`segmentation:${root}?split=test`);
    expect(val.length).toBe(2);
    const some = await openDataset(`segmentation:${root}?subset=2`);
    expect(some).toMatchObject({ length: 2, pixelClasses: ["ground", "box", "disc"] });
    expect((await some.read(1)).labels).toHaveLength(32 * 48);
  });

  it("may be without splits, with subfolders, with numbers for classes, with numbers that are ignored", async () => {
    await writeColours(join(root, "images", "a", "x.png"), [4, 5], new Uint8Array(60));
    await writeMask(
      join(root, "masks", "a", "x.png"),
      [4, 5],
      Uint8Array.from({ length: 20 }, (_, i) => i % 4),
    );
    const plain = await openDataset(`segmentation:${root}?classes=4`);
    expect(plain).toMatchObject({ name: `segmentation:${root}`, pixelClasses: ["class 0", "class 1", "class 2", "class 3"] });
    expect([...(await plain.read(0)).labels!.subarray(0, 5)]).toEqual([0, 1, 2, 3, 0]);
    const reduced = await openDataset(`segmentation:${root}?classes=2&reduceZeroLabel=true&ignore=3`);
    expect([...(await reduced.read(0)).labels!.subarray(0, 5)]).toEqual([255, 0, 1, 255, 255]);
    writeFileSync(join(root, "classes.txt"), "0 none\n1 one\n2 two\n3 three\n");
    const named = await openDataset(`segmentation:${root}`);
    expect(named.pixelClasses).toEqual(["none", "one", "two", "three"]);
    expect(await problem(`segmentation:${root}?split=test`)).toContain(
      `segmentation:${root} has no test split: expected images/val/ and masks/val/, or `,
    );
  });

  it("may keep its images beside the folder of masks, as COCO does", async () => {
    await writeShapes(root);
    renameSync(join(root, "masks"), join(root, "semantic"));
    for (const split of ["train", "val"]) {
      renameSync(join(root, "images", split), join(root, `${split}2017`));
      renameSync(join(root, "semantic", split), join(root, "semantic", `${split}2017`));
    }
    rmSync(join(root, "images"), { recursive: true });
    // Where COCO has its JSON.
    mkdirSync(join(root, "annotations"));
    expect((await openDataset(`segmentation:${root}`)).length).toBe(4);
    expect((await openDataset(`segmentation:${root}`, { split: "test" })).length).toBe(2);
  });

  it("says in one sentence what is missing", async () => {
    expect(await problem("segmentation:")).toBe("segmentation needs a path: segmentation:DIR.");
    expect(await problem(`segmentation:${root}`)).toBe(`segmentation:${root} is not a folder.`);
    mkdirSync(join(root, "images"), { recursive: true });
    expect(await problem(`segmentation:${root}`)).toContain(`segmentation:${root} has no masks: none of masks/, annotations/`);
    mkdirSync(join(root, "masks"));
    expect(await problem(`segmentation:${root}`)).toContain(`does not say its classes: add ${join(root, "classes.txt")}`);
    writeFileSync(join(root, "classes.txt"), "a\nb\n");
    expect(await problem(`segmentation:${root}`)).toContain(`no file in ${join(root, "images")} ends in jpg`);
    await writeShapes(root);
    rmSync(join(root, "masks", "train", "1.png"));
    const [image, mask] = [join(root, "images", "train", "1.png"), join(root, "masks", "train", "1.png")];
    expect(await problem(`segmentation:${root}`)).toBe(
      `${image} has no mask: there is no ${mask}. Add it, or leave such images out with ?missing=skip after the folder.`,
    );
    expect((await openDataset(`segmentation:${root}?missing=skip`)).length).toBe(3);
    expect(await problem(`segmentation:${root}?missing=perhaps`)).toBe('missing is "perhaps"; expected error or skip.');
    expect(await problem(`segmentation:${root}?reduceZeroLabel=1`)).toBe('reduceZeroLabel is "1"; expected true or false.');
  });

  it("a mask that is wrong ends a training, and is listed by a check, with its path", async () => {
    await writeShapes(root);
    const mask = join(root, "masks", "train", "1.png");
    await writeMask(mask, [30, 48], new Uint8Array(30 * 48));
    const dataset = await openDataset(`segmentation:${root}`);
    const sentence = `the mask is 48x30 px, but its image ${join(root, "images", "train", "1.png")} is 48x32; expected the same size`;
    expect((await firstProblem(dataset)).reason).toBe(sentence);
    const loader = createLoader({ dataset, plan: segmentationPlan({ size: 16 }), batchSize: 4, workers: 0 });
    await expect(loader.epoch(0).next()).rejects.toThrow(`${mask}: ${sentence}`);

    await writeMask(
      mask,
      [32, 48],
      Uint8Array.from({ length: 32 * 48 }, (_, i) => (i === 100 ? 77 : 0)),
    );
    expect((await firstProblem(dataset)).reason).toBe(
      "the number 77 at column 4, row 2 is no class; expected one of the 3 classes, or 255 for none",
    );
    await writeColours(mask, [32, 48], new Uint8Array(3 * 32 * 48));
    expect((await firstProblem(dataset)).reason).toMatch(/^the mask cannot be read: it holds RGB colours/);
    writeFileSync(mask, "no image");
    expect((await firstProblem(dataset)).reason).toBe("the mask cannot be read: it is not a PNG file");
    rmSync(mask);
    expect((await firstProblem(dataset)).reason).toBe("there is no such mask");
  });
});

describe("ADE20K and Cityscapes", () => {
  it("ade20k:DIR: 0 is no class, 1 is the first", async () => {
    for (const split of ["training", "validation"]) {
      await writeColours(join(root, "images", split, "ADE_1.png"), [2, 3], new Uint8Array(18));
      await writeMask(join(root, "annotations", split, "ADE_1.png"), [2, 3], Uint8Array.of(0, 1, 2, 150, 13, 0));
    }
    const dataset = await openDataset(`ade20k:${root}?minSide=1`);
    expect(dataset.pixelClasses).toHaveLength(150);
    expect([...(await dataset.read(0)).labels!]).toEqual([255, 0, 1, 149, 12, 255]);
    expect((await openDataset(`ade20k:${root}`, { split: "test" })).name).toBe(`ade20k:${root} (test)`);
    await writeMask(join(root, "annotations", "training", "ADE_1.png"), [2, 3], Uint8Array.of(0, 1, 2, 151, 13, 0));
    expect((await firstProblem(dataset)).reason).toContain("the number 151 at column 0, row 1 is no class");
  });

  it("cityscapes:DIR: labelIds by the known map, labelTrainIds where they are", async () => {
    const image = join(root, "leftImg8bit", "train", "ulm", "ulm_0_leftImg8bit.png");
    const mask = (kind: string) => join(root, "gtFine", "train", "ulm", `ulm_0_gtFine_${kind}.png`);
    await writeColours(image, [2, 3], new Uint8Array(18));
    await writeMask(mask("labelIds"), [2, 3], Uint8Array.of(0, 7, 8, 33, 4, 26));
    const dataset = await openDataset(`cityscapes:${root}?minSide=1`);
    expect(dataset.pixelClasses!.slice(0, 3)).toEqual(["road", "sidewalk", "building"]);
    expect([...(await dataset.read(0)).labels!]).toEqual([255, 0, 1, 18, 255, 13]);
    await writeMask(mask("labelTrainIds"), [2, 3], Uint8Array.of(255, 0, 1, 18, 255, 13));
    const made = await openDataset(`cityscapes:${root}?minSide=1`);
    expect([...(await made.read(0)).labels!]).toEqual([255, 0, 1, 18, 255, 13]);
    expect(await problem(`cityscapes:${root}`, { split: "test" })).toContain("has no test split");
  });
});

describe("batches of images and masks", () => {
  const plan = segmentationPlan({ size: [16, 24], fit: { short: 32, long: null } });
  const read = async (options: Partial<LoaderOptions> & { dataset: Dataset }, epochs: number) => {
    const loader = createLoader({ plan, batchSize: 2, seed: 7, ...options });
    const made: string[] = [];
    for (let epoch = options.startAt?.epoch ?? 0; epoch < epochs; epoch++) {
      for await (const batch of loader.epoch(epoch)) {
        const { image, labels } = batch.views;
        expect(image!.shape).toEqual([1, 2, 3, 16, 24]);
        expect(labels!.shape).toEqual([1, 2, 1, 16, 24]);
        made.push([batch.index, image!.data, labels!.data].map((each) => Buffer.from(each).toString("base64")).join());
        batch.release();
      }
    }
    await loader.close();
    return made;
  };

  it("are the same by hand and by threads, and from any place on", async () => {
    await writeShapes(root);
    const dataset = await openDataset(`segmentation:${root}`);
    const byHand = await read({ dataset, workers: 0 }, 3);
    expect(new Set(byHand).size).toBe(6);
    expect(await read({ dataset, workers: 2 }, 3)).toEqual(byHand);
    expect(await read({ dataset, workers: 1, startAt: { epoch: 1, batch: 1 } }, 3)).toEqual(byHand.slice(3));
  });

  it("become normalised images and whole numbers", async () => {
    await writeShapes(root);
    const dataset = await openDataset(`segmentation:${root}`);
    const loader = createLoader({ dataset, plan, batchSize: 2, workers: 0 });
    const { value } = await loader.epoch(0).next();
    const bytes = value!.views.image!.data.slice();
    const labels = [...value!.views.labels!.data];
    tidy(() => {
      const batch = toPixelTensors(value!, plan);
      expect(batch.images.shape).toEqual([2, 3, 16, 24]);
      expect([batch.labels.dtype, batch.labels.shape]).toEqual(["int64", [2, 16, 24]]);
      expect(batch.labels.toArray()).toEqual(labels);
      expect(batch.images.toArray()[0]).toBeCloseTo((bytes[0]! / 255 - 0.485) / 0.229, 5);
    });
  });

  it("a folder that is a link is followed", async () => {
    const real = join(folder, `d${n++}`);
    await writeShapes(real);
    symlinkSync(real, root);
    expect((await openDataset(`segmentation:${root}`)).length).toBe(4);
  });
});

describe("coco-masks:ANNOTATIONS.json,DIR", () => {
  it("paints objects over the background, the smaller in front; a box alone is of no class", async () => {
    await writeColours(join(root, "a.png"), [6, 8], new Uint8Array(144));
    const box = (x: number, y: number, w: number, h: number) => [[x, y, x + w, y, x + w, y + h, x, y + h]];
    const object = (id: number, category_id: number, [x, y, w, h]: [number, number, number, number], segmentation: unknown) => ({
      ...{ id, image_id: 7, category_id, bbox: [x, y, w, h], area: w * h, iscrowd: 0 },
      ...(segmentation !== undefined && { segmentation }),
    });
    const file = join(root, "a.json");
    writeFileSync(
      file,
      JSON.stringify({
        images: [{ id: 7, file_name: "a.png", width: 8, height: 6 }],
        categories: [{ id: 3, name: "cat" }, { id: 9, name: "dog" }], // biome-ignore format: categories
        annotations: [
          object(1, 9, [1, 1, 2, 2], box(1, 1, 2, 2)),
          object(2, 3, [0, 0, 4, 4], box(0, 0, 4, 4)),
          object(3, 3, [6, 4, 2, 2], undefined),
        ],
      }),
    );
    const dataset = await openDataset(`coco-masks:${file},${root}`);
    expect(dataset).toMatchObject({ length: 1, pixelClasses: ["background", "cat", "dog"], name: `coco-masks:${file}` });
    expect(dataset.classes).toBeUndefined();
    const { labels } = await dataset.read(0);
    const rows = Array.from({ length: 6 }, (_, y) =>
      [...labels!.subarray(8 * y, 8 * y + 8)].map((each) => (each === 255 ? "x" : each)).join(""),
    );
    expect(rows).toEqual(["11110000", "12210000", "12210000", "11110000", "000000xx", "000000xx"]);
    expect(await problem(`coco-masks:${file},${root}`, { split: "test" })).toContain('has no split "test"');
    // A worker makes it again from what travels.
    const plan = segmentationPlan({ size: 8, fit: { short: 6, long: null }, ratio: [1, 1], flip: 0 });
    const loader = createLoader({ dataset, plan, batchSize: 1, workers: 1 });
    const { value } = await loader.epoch(0).next();
    expect([...value!.views.labels!.data.subarray(8, 16)]).toEqual([1, 2, 2, 1, 0, 0, 0, 0]);
    await loader.close();
  });
});
