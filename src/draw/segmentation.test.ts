// Classes of pixels as colours.
import { describe, expect, it } from "vitest";
import type { RgbImage } from "./image.js";
import { labelColor, labelledImage, segmentationGrid } from "./segmentation.js";

const image = (width: number, height: number): RgbImage => ({ width, height, data: new Uint8Array(3 * width * height).fill(80) });
const at = ({ data, width }: RgbImage, x: number, y: number) => [...data.subarray(3 * (y * width + x), 3 * (y * width + x) + 3)];
const seen = ({ data }: RgbImage) => {
  const colours = new Set<string>();
  for (let i = 0; i < data.length; i += 3) colours.add([...data.subarray(i, i + 3)].join());
  return colours;
};

describe("colours of classes", () => {
  it("are Pascal VOC's from its class 1 on, and all different", () => {
    expect([0, 1, 2, 14].map(labelColor)).toEqual([[128, 0, 0], [0, 128, 0], [128, 128, 0], [192, 128, 128]]); // biome-ignore format: colours
    expect(new Set(Array.from({ length: 255 }, (_, i) => labelColor(i).join())).size).toBe(255);
  });

  it("lie over a shadow of the image; black where there is no class", () => {
    const labelled = labelledImage(image(3, 1), { width: 3, height: 1, labels: Uint8Array.of(0, 1, 255) });
    expect([0, 1, 2].map((x) => at(labelled, x, 0))).toEqual([[116, 20, 20], [20, 116, 20], [20, 20, 20]]); // biome-ignore format: colours
    expect(() => labelledImage(image(3, 1), { width: 1, height: 3, labels: new Uint8Array(3) })).toThrow(
      "expected the same size",
    );
  });
});

describe("a picture of a segmentation", () => {
  const labels = (width: number, height: number, label: number) => ({
    width,
    height,
    labels: new Uint8Array(width * height).fill(label),
  });

  it("has the image, each opinion, and a legend of the classes that are seen", () => {
    const made = segmentationGrid({
      images: [image(40, 20), image(20, 30)],
      columns: [["truth", [labels(40, 20, 0), labels(20, 30, 255)]], ["prediction", [labels(40, 20, 2), labels(20, 30, 0)]]], // biome-ignore format: columns
      classes: ["sky", "sea", "a name that is much longer than the picture itself can be in any case whatever"],
    });
    const colours = seen(made);
    // Classes 0 and 2 in full in the legend, class 1 nowhere.
    expect([0, 1, 2].map((label) => colours.has(labelColor(label).join()))).toEqual([true, false, true]);
    expect(made.data).toHaveLength(3 * made.width * made.height);
  });

  it("shows large images smaller", () => {
    const one = segmentationGrid({
      images: [image(1000, 500)],
      columns: [["truth", [labels(1000, 500, 1)]]],
      classes: ["a", "b"],
      most: 100,
    });
    expect(one.width).toBeLessThan(260);
    expect(() => segmentationGrid({ images: [image(4, 4)], columns: [["truth", []]], classes: [] })).toThrow(
      "truth has 0 images, expected 1",
    );
  });
});
