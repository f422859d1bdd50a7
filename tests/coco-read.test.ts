// Annotations in COCO's format: what is read of them, and what is said of every kind of mistake, with its place.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  CocoDataset,
  DataError,
  maskArea,
  openDataset,
  readCoco,
  readCocoTruth,
  restoreDataset,
  toRleJson,
  verifyDataset,
} from "../src/data/index.js";
import { tessera } from "./cli-harness.js";

let root = "";
beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), "tessera-coco-"));
  mkdirSync(join(root, "images"));
  for (const name of ["a.png", "b.png", "c.png"]) writeFileSync(join(root, "images", name), await picture(8, 6).png().toBuffer());
});
afterAll(() => rmSync(root, { recursive: true }));

function picture(width: number, height: number, channels: 1 | 3 = 3) {
  const data = Buffer.from(Array.from({ length: width * height * channels }, (_, i) => (i * 7) % 256));
  return sharp(data, { raw: { width, height, channels } });
}

const images = [
  { id: 10, file_name: "a.png", width: 8, height: 6 },
  { id: 7, file_name: "b.png", width: 8, height: 6 },
  { id: 3, file_name: "c.png", width: 8, height: 6 },
];
const categories = [
  { id: 5, name: "cat", supercategory: "animal" },
  { id: 2, name: "dog" },
  { id: 90, name: "toothbrush" },
];
const square = [[1, 1, 4, 1, 4, 3, 1, 3]];
const object = { id: 1, image_id: 7, category_id: 5, bbox: [1, 1, 3, 2], area: 6, iscrowd: 0, segmentation: square as unknown };

let files = 0;
function file(content: unknown): string {
  const path = join(root, `ann${files++}.json`);
  writeFileSync(path, typeof content === "string" || Buffer.isBuffer(content) ? content : JSON.stringify(content));
  return path;
}

function read(content: unknown): Promise<CocoDataset> {
  return readCoco(file(content), join(root, "images"));
}

const withObjects = (...annotations: object[]) => read({ images, annotations, categories });

describe("COCO annotations", () => {
  it("are images with objects, and labels in the order of the categories' ids", async () => {
    const rle = { size: [6, 8], counts: [10, 3, 35] };
    const data = await withObjects(
      { ...object, id: 4, category_id: 90, segmentation: rle, iscrowd: 1 },
      { ...object, id: 3, image_id: 10, area: undefined },
      { ...object, id: 9, category_id: 2, segmentation: undefined, area: undefined },
    );
    expect(data.categories.map(({ name }) => name)).toEqual(["dog", "cat", "toothbrush"]);
    expect([0, 1, 2].map((i) => [data.imageId(i), data.size(i), data.objects(i).map((o) => data.objectId(o))])).toEqual([
      [10, [6, 8], [3]],
      [7, [6, 8], [4, 9]],
      [3, [6, 8], []],
    ]);
    const [crowd, plain] = data.objects(1) as [number, number];
    expect([data.isCrowd(crowd), data.labelOf(crowd), maskArea(data.mask(crowd)!), data.area(crowd)]).toEqual([true, 2, 3, 6]);
    expect([data.isCrowd(plain), data.mask(plain), data.area(plain), data.box(plain)]).toEqual([
      false,
      undefined,
      6,
      [1, 1, 3, 2],
    ]);
    expect(data.area(data.objects(0)[0]!)).toBe(6);
    expect(data.shape(data.objects(0)[0]!)).toEqual({ polygons: [Float64Array.from(square[0]!)] });
    expect(toRleJson(data.mask(crowd)!)).toEqual({ size: [6, 8], counts: ":3S1" });
  });

  it("open by a spec string, in part, and again in another thread", async () => {
    const path = file({ images, annotations: [object], categories });
    const data = await openDataset(`coco:${path},${root}/images?subset=2&seed=1`);
    expect(data).toBeInstanceOf(CocoDataset);
    expect(data.length).toBe(2);
    const again = (await restoreDataset(data.spec)) as CocoDataset;
    expect([again.imageId(0), again.imageId(1)]).toEqual([(data as CocoDataset).imageId(0), (data as CocoDataset).imageId(1)]);
    const only = ((await openDataset(`coco:${path},${root}/images`)) as CocoDataset).withObjects();
    expect([only.length, only.imageId(0), only.objects(0).length]).toEqual([1, 7, 1]);
    expect((await verifyDataset(only)).bad).toEqual([]);
    await expect(openDataset(`coco:${path}`)).rejects.toThrow(/lacks a path; expected coco:ANNOTATIONS.json,IMAGES_DIR/);
    await expect(openDataset(`coco:${path},${root}/images?split=test`)).rejects.toThrow(/has no split "test"/);
  });

  it("tell what is odd, and leave out of training what cannot be learnt from", async () => {
    const data = await withObjects(
      { ...object, id: 1, bbox: [-3, 1, 5, 2] },
      { ...object, id: 2, bbox: [20, 1, 5, 2] },
      { ...object, id: 3, bbox: [2, 1, 0, 2], segmentation: [] },
      { ...object, id: 4, iscrowd: 1 },
      { ...object, id: 5, bbox: [4, 1, 4.3, 2] },
    );
    expect(data.notes).toEqual([
      "2 images have no objects",
      "2 of 3 categories have no objects: dog, toothbrush",
      "1 objects are crowds: nothing is learnt from them, and what is found in them does not count against AP",
      "1 boxes reach out of their image: cut at its edge for training",
      "1 boxes lie outside of their image: left out of training",
      "1 boxes have no width or no height: left out of training",
      "1 objects have no mask: training takes their box for it",
    ]);
    expect(data.objects(1).map((o) => data.isUsable(o))).toEqual([true, false, false, false, true]);
  });

  it("are verified by the command, which tells what is odd", async () => {
    const path = file({ images, annotations: [object], categories });
    const { code, stdout, stderr } = await tessera(["data", "verify", `coco:${path},${root}/images`]);
    expect([code, stdout]).toEqual([0, `coco:${path}: 3 images, all good\n`]);
    expect(stderr).toContain("note: 2 images have no objects\n");
  });

  it("may miss images, but not all", async () => {
    const lost = [...images, { id: 11, file_name: "sub/lost.png", width: 8, height: 6 }];
    const data = await read({ images: lost, annotations: [object], categories });
    expect(data.notes[0]).toBe("1 of 4 images are missing (sub/lost.png): skipped and counted");
    const { bad } = await verifyDataset(data);
    expect(bad).toEqual([{ index: 3, path: join(root, "images/sub/lost.png"), reason: expect.stringMatching(/no such file/) }]);
    await expect(read({ images: lost.slice(3), annotations: [], categories })).rejects.toThrow(
      /None of the 1 images.*no .*lost.png/,
    );
    await expect(readCoco(file({}), join(root, "nowhere"))).rejects.toThrow(
      /nowhere, the folder of the images of .*, is not a folder/,
    );
  });

  it("are for images of their size; turned by EXIF or not", async () => {
    const write = async (name: string, image: ReturnType<typeof picture>) =>
      writeFileSync(join(root, "images", name), await image.toBuffer());
    await write("turned.jpg", picture(8, 6).jpeg().withMetadata({ orientation: 6 }));
    await write("grey.png", picture(8, 6, 1).toColourspace("b-w").png());
    const of = (id: number, file_name: string, width: number, height: number) => ({ id, file_name, width, height });
    const own = [of(1, "turned.jpg", 6, 8), of(2, "turned.jpg", 8, 6), of(3, "grey.png", 8, 6), of(4, "a.png", 8, 7)];
    const data = await read({ images: own, annotations: [], categories });
    const sizes = await Promise.all([0, 1, 2].map(async (i) => ((image) => [image.width, image.height])(await data.read(i))));
    expect(sizes).toEqual([
      [6, 8],
      [8, 6],
      [8, 6],
    ]);
    await expect(data.read(3)).rejects.toThrow("it is 8x6 px, but its annotations are for 8x7");
  });
});

describe("annotations that are wrong", () => {
  const refused = (content: unknown, text: RegExp) => expect(read(content)).rejects.toThrow(text);

  it("are told with their lines and columns, all at once", async () => {
    const lines = [
      '{"images": [',
      '  {"id": 1, "file_name": "a.png", "width": 8, "height": 6}],',
      ' "annotations": [',
      '  {"id": 1, "image_id": 1, "category_id": 9, "bbox": [1, 2, 3, 4]},',
      '  {"id": 2, "image_id": 4, "category_id": 1, "bbox": [1, 2, 3, 4]}, {"id": 2, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3]},',
      '  {"id": 3, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, -4], "iscrowd": 2}],',
      ' "categories": [{"id": 1, "name": "é"}]}',
    ];
    const path = file(lines.join("\n"));
    const problems = [
      `${path}:5:69: annotations[2] (id 2).id is that of annotations[1], too; expected each id once.`,
      `${path}:6:3: annotations[3] (id 3).bbox is [1,2,3,-4]; expected [x, y, width, height] in pixels, width and height at least 0.`,
      `${path}:6:3: annotations[3] (id 3).iscrowd is 2; expected 0 or 1.`,
      `${path}:5:3: annotations[1] (id 2).image_id is 4; no image has that id.`,
      `${path}:4:3: annotations[0] (id 1).category_id is 9; known are 1.`,
    ];
    await expect(readCoco(path, join(root, "images"))).rejects.toThrow(problems.join("\n"));
  });

  it("such as boxes, masks, ids and sides of a wrong form", async () => {
    const wrong = (change: object, text: RegExp) => expect(withObjects({ ...object, ...change })).rejects.toThrow(text);
    await wrong({ bbox: "1,2,3,4" }, /\.bbox is "1,2,3,4"; expected \[x, y, width, height\]/);
    await wrong({ bbox: [1, 2, null, 4] }, /\.bbox is \[1,2,null,4\]/);
    await wrong({ bbox: undefined }, /\.bbox is missing/);
    await wrong({ segmentation: [1, 1, 4, 1, 4, 3] }, /segmentation\[0\] is 1; expected polygons \[\[x, y, x, y/);
    await wrong({ segmentation: [[1, 1, 4, 1, 4, 3, 2]] }, /segmentation\[0\] has 7 numbers; expected pairs/);
    await wrong({ segmentation: [[1, 1, 4, 1, 4, "3"]] }, /segmentation\[0\]\[5\] is "3"; expected pixels/);
    await wrong({ segmentation: [[1, 1, 4, 1, 4, 3e9]] }, /segmentation\[0\]\[5\] is 3000000000; expected pixels/);
    await wrong({ segmentation: "none" }, /segmentation is "none"; expected polygons/);
    await wrong({ segmentation: { size: [6, 8], counts: [3, 4] } }, /segmentation: The runs .* add up to 7; expected 48\.$/);
    await wrong(
      { segmentation: { size: [8, 6], counts: [48] } },
      /segmentation.size is \[8, 6\], but its image \(id 7\) has height 6 and width 8/,
    );
    await wrong({ id: "x" }, /annotations\[0\] \(id "x"\)\.id is "x"; expected a whole number/);
    await wrong({ image_id: "7" }, /image_id is "7"; expected the id of an image/);
    await wrong({ area: -1 }, /area is -1; expected pixels/);
    await refused(
      { images: [{ id: 1, file_name: "", width: 0, height: 2.5 }], annotations: [], categories },
      /file_name is "".*\n.*width is 0.*\n.*height is 2.5/,
    );
    await refused(
      { images: [images[0], images[0]], annotations: [], categories },
      /images\[1\] \(id 10\)\.id is that of images\[0\], too/,
    );
    await refused({ images, annotations: [], categories: [{ id: 1 }] }, /categories\[0\] \(id 1\)\.name is missing/);
    await refused({ images, annotations: [7], categories }, /annotations\[0\] is 7; expected an object/);
  });

  it("of whatever kind, are never taken for mistakes of ours", async () => {
    const rle = { size: [6, 8], counts: ":3S1" };
    const whole = { images, annotations: [object, { ...object, id: 2, segmentation: rle }], categories };
    const places = [...placesIn(whole)];
    const path = file({});
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...places), fc.jsonValue({ maxDepth: 2 }), async (place, value) => {
        writeFileSync(path, JSON.stringify(replaced(whole, place, value)));
        const read = await readCocoTruth(path).catch((error) => error);
        if (read instanceof CocoDataset) for (let i = 0; i < read.length; i++) for (const o of read.objects(i)) read.mask(o);
        else expect(read).toBeInstanceOf(DataError);
      }),
      { numRuns: 500 },
    );
  });

  /** The way to every value in some JSON. */
  function* placesIn(value: unknown, way: string[] = []): Generator<string[]> {
    yield way;
    if (typeof value !== "object" || value === null) return;
    for (const [key, each] of Object.entries(value)) yield* placesIn(each, [...way, key]);
  }

  function replaced(whole: unknown, [key, ...rest]: string[], value: unknown): unknown {
    if (key === undefined) return value;
    const copy = Array.isArray(whole) ? [...whole] : { ...(whole as object) };
    (copy as Record<string, unknown>)[key] = replaced((whole as Record<string, unknown>)[key], rest, value);
    return copy;
  }

  it("such as sections that are not there", async () => {
    await refused({ images, categories }, /:1:1: there is no "annotations"; expected COCO's format/);
    await refused({ images: [], annotations: [], categories }, /"images" is an empty list; expected at least one/);
    await refused({ images: 3, annotations: [], categories }, /"images" is 3; expected a list/);
    await refused([object], /is a list; expected an object with "images"/);
  });

  it("such as what is no JSON, with its place", async () => {
    const at = (text: string, place: RegExp) => refused(text, place);
    await at('{"images": [{"id": 1,}]}', /:1:22: not JSON: expected a name in quotes in images\[0\] \(near/);
    await at('{"images": [\n{"id": 1}\n{"id": 2}]}', /:3:1: not JSON: expected , or \] after images\[0\]/);
    await at('{"images": [\n{"id": [1, 2}, {"id": 2}]}', /:2:13: not JSON: expected , or \] in images\[0\]/);
    await at('{"images": [\n{"id": "a\nb"}]}', /:2:10: not JSON: expected a closing quote or a valid escape in images\[0\]/);
    await at('{"é": 1, "images": [{"id": 01}]}', /:1:29: not JSON: expected , or } in images\[0\]/);
    await at(
      '{"images": [{"id": 1}], "annotations": [{"id": 1, "bbox": [1, 2',
      /:1:64: not JSON: the file ends within annotations\[0\], which begins at 1:41/,
    );
    await at('{"images": [{"id": 1}', /:1:22: not JSON: the file ends where , or \] after images\[0\] is expected/);
    await at('{"images": [{"id": 1}]} 5', /:1:25: not JSON: expected nothing after the end/);
    await at("hello", /:1:1: not JSON: expected a list or an object/);
    await at("", /is empty \(0 bytes\)/);
    await at('{"a" 1}', /:1:6: not JSON: expected : after "a"/);
    await at('{"a": nul}', /:1:7: not JSON: expected a value in "a"/);
    await at('{"a": [1,]}', /:1:10: not JSON: expected a value in a\[1\]/);
    await expect(readCoco(join(root, "none.json"), root)).rejects.toThrow(/There is no annotations file .*none.json/);
    await expect(readCoco(root, root)).rejects.toThrow(/is a folder; expected a JSON file with annotations/);
  });
});
