import { describe, expect, it } from "vitest";
import { blank } from "./image.js";
import { classColor, type DrawnObject, drawObjects } from "./objects.js";

const at = ({ width, data }: { width: number; data: Uint8Array }, x: number, y: number) => [
  ...data.subarray(3 * (y * width + x), 3 * (y * width + x) + 3),
];
const red = [255, 0, 0] as const;
const object = (box: DrawnObject["box"], more: Partial<DrawnObject> = {}): DrawnObject => ({
  box,
  name: "",
  color: red,
  ...more,
});

describe("objects in an image", () => {
  it("have boxes around them, and leave the given image as it is", () => {
    const image = blank(60, 40);
    const drawn = drawObjects(image, [object([10, 20, 30, 35])]);
    expect(image).toEqual(blank(60, 40));
    for (const [x, y] of [
      [10, 30],
      [29, 30],
      [20, 34],
      [10, 34],
    ] as const)
      expect(at(drawn, x, y)).toEqual([...red]);
    for (const [x, y] of [
      [9, 30],
      [30, 30],
      [20, 35],
      [20, 30],
    ] as const)
      expect(at(drawn, x, y)).toEqual([255, 255, 255]);
  });

  it("have masks that shine through, with an outline", () => {
    const mask = new Uint8Array(60 * 40);
    for (let y = 22; y < 32; y++) mask.fill(1, y * 60 + 12, y * 60 + 28);
    const drawn = drawObjects(blank(60, 40), [object([10, 20, 30, 35], { mask })]);
    expect(at(drawn, 20, 26)).toEqual([255, 140, 140]);
    expect(at(drawn, 12, 26)[1]).toBeLessThan(60);
    expect(at(drawn, 11, 26)).toEqual([255, 255, 255]);
    expect(() => drawObjects(blank(60, 40), [object([0, 0, 5, 5], { mask: [1] })])).toThrow(/mask of 1 values .* expected 2400/);
  });

  it("may be dashed, one pixel large, or reach outside", () => {
    const dashed = drawObjects(blank(60, 40), [object([10, 20, 50, 35], { dashed: true })]);
    const line = Array.from({ length: 40 }, (_, i) => at(dashed, 10 + i, 34)[1]);
    expect(new Set(line)).toEqual(new Set([0, 255]));
    expect(at(drawObjects(blank(60, 40), [object([10, 20, 10, 20])]), 10, 20)).toEqual([...red]);
    const outside = drawObjects(blank(60, 40), [
      object([-20, -20, 200, 200], { name: "a very long name", score: 0.987 }),
      object([70, 50, 90, 60]),
    ]);
    expect(outside.data).toHaveLength(60 * 40 * 3);
  });

  it("are named above their box, labels not upon each other", () => {
    const alone = drawObjects(blank(200, 120), [object([50, 60, 150, 110], { name: "cat", score: 0.5 })]);
    expect(at(alone, 51, 59)).toEqual([...red]);
    expect(at(alone, 51, 40)).toEqual([255, 255, 255]);
    const second = object([50, 60, 150, 110], { name: "dog", color: [0, 0, 255] });
    const both = drawObjects(blank(200, 120), [object([50, 60, 150, 110], { name: "cat" }), second]);
    expect([at(both, 51, 59), at(both, 51, 62)]).toEqual([[0, 0, 255], [...red]]);
  });

  it("have colours that differ by class", () => {
    const colors = Array.from({ length: 90 }, (_, label) => classColor(label).join());
    expect(new Set(colors).size).toBe(90);
  });
});
