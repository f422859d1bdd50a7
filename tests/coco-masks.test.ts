// Masks equal those of pycocotools, to the pixel and the letter, on thousands of random polygons (tests/reference/coco_masks.py).
import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import {
  boxOverlaps,
  maskArea,
  maskBox,
  maskOverlaps,
  mergeMasks,
  packCounts,
  polygonMask,
  polygonsMask,
  unpackCounts,
} from "../src/data/index.js";
import { readGolden, testRegenerates } from "./reference/golden.js";

interface Golden {
  polygons: Record<
    string,
    {
      seed: number;
      count: number;
      digest: string;
      area: number;
      first: { size: [number, number]; points: number[]; counts: string; area: number; box: number[] }[];
    }
  >;
  unions: { seed: number; count: number; digest: string };
  overlaps: { seed: number; cases: { size: [number, number]; crowd: number[]; masks: number[]; boxes: number[] }[] };
}

/** Chance of coco_masks.py: below(n). */
function chance(state: number): (n: number) => number {
  return (n) => {
    state = (state * 16807) % 2147483647;
    return state % n;
  };
}

const coordinates: Record<string, (below: (n: number) => number, side: number) => number> = {
  hundredths: (below, side) => below(side * 100 + 1) / 100,
  integers: (below, side) => below(side + 1),
  tenths: (below, side) => below(side * 10 + 1) / 10,
  outside: (below, side) => below(side * 300 + 1) / 100 - side,
  tiny: (below, side) => side / 2 + below(300) / 100,
  fine: (below, side) => (below(2147483646) / 2147483646) * side,
};

function polygon(below: (n: number) => number, kind: string, width: number, height: number): number[] {
  const corners = 3 + below(10);
  const points: number[] = [];
  for (let i = 0; i < corners; i++) {
    if (i > 0 && below(8) === 0) points.push(...points.slice(-2));
    else points.push(coordinates[kind]!(below, width), coordinates[kind]!(below, height));
  }
  return points;
}

describe("masks equal pycocotools'", () => {
  const golden = readGolden<Golden>("coco_masks");

  for (const [kind, { seed, count, digest, area, first }] of Object.entries(golden.polygons)) {
    it(`${count} polygons with corners at ${kind}`, () => {
      const below = chance(seed);
      const hash = createHash("sha256");
      let total = 0;
      for (let i = 0; i < count; i++) {
        const [height, width] = [1 + below(60), 1 + below(60)];
        const points = polygon(below, kind, width, height);
        const mask = polygonMask(points, [height, width]);
        const text = packCounts(mask.counts);
        if (first[i]) {
          const own = { size: [height, width], points, counts: text, area: maskArea(mask), box: maskBox(mask) };
          expect(own).toEqual(first[i]);
        }
        expect(unpackCounts(text)).toEqual(mask.counts);
        hash.update(`${height} ${width} ${text} ${maskArea(mask)} [${maskBox(mask).join(", ")}]\n`);
        total += maskArea(mask);
      }
      expect(total).toBe(area);
      expect(hash.digest("hex")).toBe(digest);
    });
  }

  it("unions and intersections", () => {
    const below = chance(golden.unions.seed);
    const hash = createHash("sha256");
    for (let i = 0; i < golden.unions.count; i++) {
      const [height, width] = [1 + below(60), 1 + below(60)];
      const parts = Array.from({ length: 2 + below(3) }, () => polygon(below, "hundredths", width, height));
      const masks = parts.map((points) => polygonMask(points, [height, width]));
      const union = polygonsMask(parts, [height, width]);
      hash.update(`${packCounts(union.counts)} ${packCounts(mergeMasks(masks, "intersection").counts)}\n`);
    }
    expect(hash.digest("hex")).toBe(golden.unions.digest);
  });

  it("overlaps of masks and of boxes, with crowds", () => {
    const below = chance(golden.overlaps.seed);
    for (const { size, crowd, masks, boxes } of golden.overlaps.cases) {
      const [height, width] = [20 + below(40), 20 + below(40)];
      expect([height, width]).toEqual(size);
      const made = (n: number) => Array.from({ length: n }, () => polygonMask(polygon(below, "hundredths", width, height), size));
      const [found, truths] = [made(5), made(4)];
      expect(truths.map(() => Number(below(3) === 0))).toEqual(crowd);
      expect([...maskOverlaps(found, truths, crowd)]).toEqual(masks);
      expect([...boxOverlaps(found.flatMap(maskBox), truths.flatMap(maskBox), crowd)]).toEqual(boxes);
    }
  });

  testRegenerates("coco_masks", ["torch", "pycocotools"]);
});
