// Class reports: numbers by their definitions, and files that are there whole.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { classReport, writeClassReport } from "./index.js";

const folder = mkdtempSync(join(tmpdir(), "tessera-classes-"));
afterAll(() => rmSync(folder, { recursive: true }));

describe("classReport", () => {
  it("has each class's accuracy, precision and what it was taken for", () => {
    const report = classReport(
      ["cat", "dog", "emu", "fox"],
      [
        [6, 3, 1, 0],
        [0, 5, 0, 0],
        [0, 0, 0, 0],
        [1, 4, 2, 3],
      ],
    );
    expect(report).toMatchObject({ images: 25, accuracy: 14 / 25, meanAccuracy: (0.6 + 1 + 0.3) / 3 });
    expect(report.classes[0]).toEqual({
      name: "cat",
      images: 10,
      right: 6,
      accuracy: 0.6,
      precision: 6 / 7,
      takenFor: [
        { name: "dog", images: 3 },
        { name: "emu", images: 1 },
      ],
    });
    expect(report.classes[2]).toMatchObject({ images: 0, accuracy: null, precision: 0, takenFor: [] });
    expect(report.classes[3]!.takenFor.map(({ name }) => name)).toEqual(["dog", "emu", "cat"]);
  });

  it("counts every image once, whatever the matrix", () => {
    const matrix = fc.integer({ min: 1, max: 8 }).chain((count) => {
      const row = fc.array(fc.nat(20), { minLength: count, maxLength: count });
      return fc.array(row, { minLength: count, maxLength: count });
    });
    const property = fc.property(matrix, (confusion) => {
      const total = confusion.flat().reduce((a, b) => a + b, 0);
      fc.pre(total > 0);
      const { images, accuracy, meanAccuracy, classes } = classReport(
        confusion.map((_, i) => String(i)),
        confusion,
      );
      expect(images).toBe(total);
      expect(accuracy).toBeCloseTo(classes.reduce((sum, { right }) => sum + right, 0) / total, 12);
      const known = classes.flatMap((each) => each.accuracy ?? []);
      expect(meanAccuracy).toBeCloseTo(known.reduce((a, b) => a + b, 0) / known.length, 12);
      for (const { precision, accuracy: own } of classes) {
        for (const share of [precision, own]) if (share !== null) expect(share >= 0 && share <= 1).toBe(true);
      }
    });
    fc.assert(property);
  });

  it("says what is wrong", () => {
    expect(() => classReport(["a", "b"], [[1]])).toThrow(
      "A confusion matrix of 1 x 1 for 2 classes; expected a row and a column each.",
    );
    expect(() => classReport(["a"], [[1, 2]])).toThrow(/1 x 2 for 1 classes/);
    expect(() => classReport(["a"], [[0]])).toThrow("A confusion matrix without images; expected at least one.");
  });
});

describe("writeClassReport", () => {
  it("writes pictures and JSON, over what was there, and leaves nothing else", async () => {
    const out = join(folder, "new", "report");
    const confusion = [
      [3, 1],
      [0, 2],
    ];
    await writeClassReport(out, {
      title: "t",
      names: ["a", "b"],
      confusion: [
        [1, 0],
        [0, 0],
      ],
      result: { top1: 0 },
    });
    await writeClassReport(out, { title: "probe of x", names: ["a", "b"], confusion, result: { top1: 5 / 6 } });
    expect(readdirSync(out).sort()).toEqual(["classes.json", "classes.png", "confusion.png", "result.json"]);
    const read = (name: string) => JSON.parse(readFileSync(join(out, name), "utf8"));
    expect(read("classes.json")).toEqual({ title: "probe of x", ...classReport(["a", "b"], confusion), confusion });
    expect(read("result.json")).toEqual({ top1: 5 / 6 });
    expect(readFileSync(join(out, "classes.json"), "utf8")).toContain("\n    [3,1],\n    [0,2]\n  ]\n}\n");
    for (const name of ["classes.png", "confusion.png"]) {
      expect(readFileSync(join(out, name)).subarray(1, 4).toString()).toBe("PNG");
    }
  });

  it("takes a thousand classes", async () => {
    const out = join(folder, "many");
    const names = Array.from({ length: 1000 }, (_, i) => `class ${i}`);
    const confusion = names.map((_, r) => names.map((_, c) => (r === c ? 3 : (r * 7 + c) % 501 === 0 ? 1 : 0)));
    await writeClassReport(out, { title: "many", names, confusion });
    expect(readdirSync(out).sort()).toEqual(["classes.json", "classes.png", "confusion.png"]);
    expect(JSON.parse(readFileSync(join(out, "classes.json"), "utf8")).confusion).toEqual(confusion);
  });
});
