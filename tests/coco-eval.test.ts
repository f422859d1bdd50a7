// COCO's measures equal pycocotools' on the same results (tests/reference/coco_eval.py), and say what is wrong with results that do not fit.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type CocoDataset, fromRleJson, readCocoTruth } from "../src/data/index.js";
import { type CocoKind, type CocoResult, type CocoScores, evaluateCoco, readCocoResults } from "../src/evaluate/index.js";
import { tessera } from "./cli-harness.js";
import { readGolden, testRegenerates } from "./reference/golden.js";

interface Measured {
  scores: CocoScores;
  categories: { AP: number; AP50: number; AP75: number; AR100: number }[];
}
interface Case extends Record<CocoKind, Measured> {
  truth: { images: { id: number }[]; annotations: { id: number }[]; categories: object[] };
  results: CocoResult[];
}

let root = "";
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "tessera-coco-eval-"));
});
afterAll(() => rmSync(root, { recursive: true }));

let files = 0;
function write(content: unknown): string {
  const path = join(root, `${files++}.json`);
  writeFileSync(path, JSON.stringify(content));
  return path;
}

const golden = readGolden<Record<string, Case>>("coco_eval");
const few = golden["one category"]!;

function expectScores(actual: object, expected: object): void {
  expect(Object.keys(actual)).toEqual(expect.arrayContaining(Object.keys(expected)));
  for (const [name, value] of Object.entries(expected)) {
    expect(Math.abs((actual as Record<string, number>)[name]! - value), name).toBeLessThan(1e-9);
  }
}

describe("COCO's measures equal pycocotools'", () => {
  for (const [name, { truth, results, ...kinds }] of Object.entries(golden)) {
    for (const kind of ["box", "mask"] as const) {
      it(`of each ${kind}: ${name}`, async () => {
        const evaluation = evaluateCoco(await readCocoTruth(write(truth)), results, kind);
        expectScores(evaluation.scores, kinds[kind].scores);
        expect(evaluation.categories).toHaveLength(kinds[kind].categories.length);
        for (const [k, each] of evaluation.categories.entries()) expectScores(each, kinds[kind].categories[k]!);
      });
    }
  }

  testRegenerates("coco_eval", ["torch", "pycocotools"]);
});

describe("COCO's measures", () => {
  const truth = (): Promise<CocoDataset> => readCocoTruth(write(few.truth));
  const perfect = (): CocoResult[] =>
    (few.truth.annotations as unknown as { image_id: number; category_id: number; bbox: number[]; iscrowd: number }[])
      .filter(({ iscrowd }) => !iscrowd)
      .map(({ image_id, category_id, bbox }) => ({ image_id, category_id, bbox, score: 1 }));

  it("are 1 for the truth itself, also when what was found more of is less sure", async () => {
    const data = await truth();
    expect(evaluateCoco(data, perfect()).scores.AP).toBeCloseTo(1, 12);
    const more = few.results.map((result) => ({ ...result, score: 0.5 }));
    expect(evaluateCoco(data, [...more, ...perfect()]).scores.AP).toBeCloseTo(1, 12);
  });

  it("do not depend on the order of results with different scores, nor on the scale of scores", async () => {
    const data = await truth();
    const distinct = few.results.map((result, i) => ({ ...result, score: i / 1000 }));
    const { scores } = evaluateCoco(data, distinct, "mask");
    fc.assert(
      fc.property(fc.shuffledSubarray(distinct, { minLength: distinct.length }), (shuffled) => {
        expect(evaluateCoco(data, shuffled, "mask").scores).toEqual(scores);
        expect(
          evaluateCoco(
            data,
            shuffled.map((each) => ({ ...each, score: Math.exp(each.score) })),
            "mask",
          ).scores,
        ).toEqual(scores);
      }),
      { numRuns: 5 },
    );
  });

  it("take masks as they are in memory, too, and an annotation's id 0 for any other", async () => {
    const own = few.results.slice(0, 20);
    const data = await truth();
    const unpacked = own.map((result) => ({ ...result, segmentation: fromRleJson(result.segmentation!) }));
    expect(evaluateCoco(data, unpacked, "mask")).toEqual(evaluateCoco(data, own, "mask"));
    const shifted = { ...few.truth, annotations: few.truth.annotations.map((each) => ({ ...each, id: each.id - 1 })) };
    expect(evaluateCoco(await readCocoTruth(write(shifted)), few.results).scores).toEqual(evaluateCoco(data, few.results).scores);
  });

  it("are -1 where there is nothing to be found", async () => {
    const data = await readCocoTruth(write({ ...few.truth, annotations: [] }));
    const { scores, categories, objects } = evaluateCoco(data, few.results);
    expect([objects, ...Object.values(scores)]).toEqual([0, ...Array(12).fill(-1)]);
    expect(categories.map(({ AP }) => AP)).toEqual([-1, -1]);
  });
});

describe("results that do not fit", () => {
  const result = few.results[0]!;

  async function refused(change: object, text: RegExp, kind: CocoKind = "box"): Promise<void> {
    const data = await readCocoTruth(write(few.truth));
    expect(() => evaluateCoco(data, [{ ...result, ...change }], kind)).toThrow(text);
  }

  it("are refused in a sentence", async () => {
    await refused({ image_id: 5 }, /Result 0: its image_id is 5, which no image of the annotations has/);
    await refused({ category_id: 0 }, /its category_id is 0, which no category .* \(ids, not labels from 0\)/);
    await refused({ score: Number.NaN }, /its score is null; expected a number/);
    await refused({ bbox: [1, 2, 3, -1] }, /its bbox is \[1,2,3,-1\]; expected/);
    await refused({ bbox: undefined }, /Result 0 has no bbox/);
    await refused({ segmentation: undefined }, /Result 0 has no segmentation/, "mask");
    await refused({ segmentation: [[1, 2, 3]] }, /its segmentation is none of/, "mask");
    await refused(
      { segmentation: { size: [5, 5], counts: [25] } },
      /mask of result 0 is 5 x 5 pixels, but its image .* is \d+ x \d+/,
      "mask",
    );
    await refused({ segmentation: { size: [5, 5], counts: [7] } }, /Result 0: The runs .* add up to 7; expected 25/, "mask");
    const bare = { ...few.truth, annotations: few.truth.annotations.map((each) => ({ ...each, segmentation: [] })) };
    const data = await readCocoTruth(write(bare));
    expect(() => evaluateCoco(data, few.results, "mask")).toThrow(/Annotation \d+ of .* has no segmentation.*; compare boxes/);
  });

  it("are told with their place in the file", async () => {
    const data = await readCocoTruth(write(few.truth));
    const path = join(root, "results.json");
    writeFileSync(path, `[\n${JSON.stringify(result)},\n ${JSON.stringify({ ...result, score: "high" })}]`);
    await expect(readCocoResults(path, data)).rejects.toThrow(
      /results.json:3:2: result 1: its score is "high"; expected a number/,
    );
    writeFileSync(path, '{"images": []}');
    await expect(readCocoResults(path, data)).rejects.toThrow(/is an object; expected a list of results/);
    writeFileSync(path, "[");
    await expect(readCocoResults(path, data)).rejects.toThrow(/results.json:1:2: not JSON/);
    writeFileSync(path, "[]");
    expect(await readCocoResults(path, data)).toEqual([]);
  });
});

describe("tessera evaluate coco", () => {
  it("compares a results file with annotations", async () => {
    const [truth, results] = [write(few.truth), write(few.results)];
    const { code, stdout } = await tessera(["evaluate", "coco", "--truth", truth, "--results", results, "--json"]);
    expect(code).toBe(0);
    const { box, mask } = JSON.parse(stdout);
    expectScores(box.scores, few.box.scores);
    expectScores(mask.scores, few.mask.scores);
    const boxes = write(few.results.map(({ segmentation, ...rest }) => rest));
    const plain = await tessera(["evaluate", "coco", "--truth", truth, "--results", boxes, "--classes"]);
    expect([plain.code, plain.stdout]).toEqual([0, expect.stringMatching(/box.*13\.9[\s\S]*kind 0/)]);
    expect(plain.stdout).not.toMatch(/mask/);
  });

  it("says what is wrong", async () => {
    const missing = await tessera(["evaluate", "coco", "--truth", join(root, "none.json"), "--results", write([])]);
    expect([missing.code, missing.stderr]).toEqual([1, expect.stringMatching(/There is no annotations file/)]);
    const kind = await tessera(["evaluate", "coco", "--truth", write(few.truth), "--results", write([]), "--kind", "points"]);
    expect([kind.code, kind.stderr]).toEqual([2, expect.stringMatching(/--kind is "points"; expected box, mask or both/)]);
  });
});
