// RandSAC: against tests/reference/randsac.py, which really drops tokens; segments and orders by their properties; and that nothing leaks.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  blobLevels,
  type Level,
  Randsac,
  randsac,
  randsacOptions,
  segmentRanks,
  shuffled,
  squareLevels,
} from "../../src/methods/index.js";
import { patchify, unpatchify, type VisionTransformer, type VitConfig } from "../../src/models/index.js";
import { fromTypedArray, manualSeed, noGrad, randn, type Tensor, tidy } from "../../src/torch/index.js";
import { fill, readGolden, type Stored, testRegenerates, valuesOf } from "../reference/golden.js";
import { setWeights } from "../reference/vit-weights.js";
import { at, context, tinyVit } from "./support.js";

interface Case {
  loss: number;
  predictions: number[];
  gradients: Record<string, [norm: number, product: number]>;
}
type Golden = { positions: Stored; "equal ranks": number[][]; "ragged ranks": number[][] } & Record<string, Case>;
const golden = readGolden<Golden>("randsac");

const vit: VitConfig = { ...tinyVit, positions: "sin-cos", init: "mae", classToken: false };
const make = (changes: object = {}, model = vit) =>
  new Randsac(randsacOptions.parse({ crops: { globalSize: 16 }, decoderDepth: 2, decoderHeads: 2, ...changes }), context(model));
const ranksOf = (rows: number[][]) => fromTypedArray(BigInt64Array.from(rows.flat().map(BigInt)), [rows.length, rows[0]!.length]);
const batchOf = (images: Tensor) => ({ views: { image: images.unsqueeze(0) }, index: new Int32Array(images.size(0)) });
const rowsOf = (tensor: Tensor) => tensor.tolist() as number[][];

/** With the program's weights and positions, in float64. */
function prepared(method: Randsac): Randsac {
  const { trainable } = method;
  trainable.to("float64");
  setWeights(trainable);
  const exact = fromTypedArray(valuesOf(golden.positions), [1, 16, 16]);
  noGrad(() => {
    trainable.positions.copy_(exact);
    (trainable.backbone as VisionTransformer).posEmbed.copy_(exact);
  });
  return method;
}

describe("a step as the reference program makes it", () => {
  const cases: Record<string, [ranks: "equal ranks" | "ragged ranks", options: object, forms: ("fixed" | "dropped")[]]> = {
    equal: ["equal ranks", {}, ["dropped", "fixed"]],
    "equal without skips": ["equal ranks", { skips: "off", normalizePatches: false }, ["dropped", "fixed"]],
    ragged: ["ragged ranks", { skipNorm: false, query: true }, ["fixed"]],
    "ragged without skips": ["ragged ranks", { skips: "off", decoderDepth: 1 }, ["fixed"]],
  };
  for (const [name, [ranks, options, forms]] of Object.entries(cases)) {
    for (const form of forms) {
      test(`${name}, ${form}: predictions, loss, all gradients`, () => {
        const expected = golden[name]!;
        const method = prepared(make({ ...options, form }));
        method.ranks = () => ranksOf(golden[ranks]);
        const images = fill([3, 3, 16, 16], 10);
        const { values, counts } = method.predict(images, method.ranks(images));
        const counted = counts ? values.mul(counts.unsqueeze(-1)) : values;
        for (const [b, norm] of expected.predictions.entries()) expect(counted.select(0, b).norm().item()).toBeCloseTo(norm, 7);
        const { loss } = method.step(batchOf(images), at(0));
        loss.backward();
        expect(loss.item()).toBeCloseTo(expected.loss, 8);
        for (const [each, parameter] of method.trainable.namedParameters()) {
          const wanted = expected.gradients[each];
          const gradient = parameter.grad;
          if (!wanted) {
            expect(gradient, each).toBeNull();
            continue;
          }
          const scale = 1e-7 * (1 + wanted[0]) * Math.sqrt(gradient!.numel);
          expect(Math.abs(gradient!.norm().item() - wanted[0]), each).toBeLessThan(scale);
          expect(Math.abs(gradient!.mul(fill(gradient!.shape, 3)).sum().item() - wanted[1]), each).toBeLessThan(scale);
        }
      });
    }
  }
  testRegenerates("randsac");
});

describe("nothing leaks from later segments", () => {
  const kinds: Record<string, object> = {
    square: { segments: { kind: "square", side: 2 } },
    "patch by patch": { segments: { kind: "square", side: 1 } },
    "square, fixed": { segments: { kind: "square", side: 2 }, form: "fixed" },
    blob: { segments: { kind: "blob", count: 5, partitions: [2] } },
    "blob without skips": { segments: { kind: "blob", count: 4 }, skips: "off" },
    shuffled: { segments: { kind: "square", side: 2 }, coherent: false },
  };
  for (const [name, options] of Object.entries(kinds)) {
    test(`${name}: other pixels from a segment on leave the predictions up to it as they are, and change those after it`, () => {
      manualSeed(5);
      const method = make({ ...options, query: true });
      const images = fill([3, 3, 16, 16], 10).float();
      const ranks = method.ranks(images);
      const before = method.predict(images, ranks);
      for (const from of [1, 2]) {
        // Everything but segments 0 .. from - 1 becomes something else.
        const later = ranks.ge(from);
        const patches = patchify(images, 4);
        const other = unpatchify(
          noGrad(() => later.unsqueeze(-1).float().mul(randn(patches.shape)).add(patches)),
          [4, 4],
          4,
        );
        const after = method.predict(other, ranks);
        expect(after.patches.equal(before.patches)).toBe(true);
        const rank = ranks.gather(1, before.patches);
        const difference = after.values.sub(before.values).abs().amax(-1);
        // What comes up to the first changed segment is predicted from unchanged ones only.
        expect(
          difference
            .mul(rank.le(from).logicalAnd(rank.ge(1)).float())
            .amax()
            .item(),
        ).toBe(0);
        if (rank.gt(from).any().item()) expect(difference.mul(rank.gt(from).float()).amax().item()).toBeGreaterThan(1e-4);
      }
    });
  }
});

describe("segments", () => {
  const squares = fc.constantFrom<[number, number, number[]]>(
    [4, 2, []],
    [8, 2, [4]],
    [8, 1, [2, 4]],
    [12, 3, [6]],
    [6, 1, []],
    [6, 3, []],
  );

  test("squares: every patch once, all of one size, each in its partition", () => {
    fc.assert(
      fc.property(squares, ([side, size, partitions]) => {
        const levels = squareLevels([side, side], size, partitions);
        const [own] = rowsOf(levels[0]!.parent) as [number[]];
        const counts = new Map<number, number>();
        for (const [patch, segment] of own.entries()) {
          const [row, column] = [Math.floor(patch / side), patch % side];
          expect(segment).toBe(Math.floor(row / size) * (side / size) + Math.floor(column / size));
          counts.set(segment, (counts.get(segment) ?? 0) + 1);
        }
        expect([...counts.values()].every((count) => count === size * size)).toBe(true);
        expect(levels.map(({ count }) => count)).toEqual([size, ...partitions].map((each) => (side / each) ** 2));
        let members = own;
        for (const [i, { parent }] of levels.slice(1).entries()) {
          const [above] = rowsOf(parent) as [number[]];
          members = members.map((segment) => above[segment]!);
          const each = partitions[i]!;
          for (const [patch, partition] of members.entries()) {
            expect(partition).toBe(
              Math.floor(Math.floor(patch / side) / each) * (side / each) + Math.floor((patch % side) / each),
            );
          }
        }
      }),
    );
  });

  test("blobs: every patch in one component, the nearest; components in partitions", () => {
    manualSeed(2);
    const levels = blobLevels([8, 8], 50, { counts: [11, 5], deviation: [0.1, 0.5] });
    expect(levels.map(({ parent }) => parent.shape)).toEqual([
      [50, 64],
      [50, 11],
    ]);
    for (const { parent, count } of levels) {
      expect(parent.amin().item()).toBeGreaterThanOrEqual(0);
      expect(parent.amax().item()).toBeLessThan(count);
    }
    // Patches of a blob lie nearer to each other than patches of a shuffled one.
    const spread = ({ parent }: Level) =>
      mean(
        rowsOf(parent).flatMap((row) =>
          row.flatMap((segment, patch) => {
            const others = row.flatMap((other, at) =>
              other === segment && at > patch ? [Math.hypot((at >> 3) - (patch >> 3), (at & 7) - (patch & 7))] : [],
            );
            return others;
          }),
        ),
      );
    const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
    const control = shuffled(levels, 50);
    expect(spread(levels[0]!)).toBeLessThan(0.8 * spread(control[0]!));
    const sizes = (level: Level) =>
      rowsOf(level.parent).map((row) => Array.from({ length: 11 }, (_, k) => row.filter((each) => each === k).length));
    expect(sizes(control[0]!)).toEqual(sizes(levels[0]!));
  });
});

describe("orders", () => {
  /** For each rank the segment that has it; throws where a segment has two ranks or a rank two segments. */
  const sequence = (ranks: number[], segments: number[]): number[] => {
    const order: number[] = [];
    for (const [patch, rank] of ranks.entries()) {
      if (order[rank] !== undefined && order[rank] !== segments[patch]) throw new Error(`rank ${rank} has two segments`);
      order[rank] = segments[patch]!;
    }
    if (new Set(order).size !== order.length || order.includes(undefined as never)) throw new Error(`ranks have gaps: ${order}`);
    return order;
  };

  test("ranks are a permutation of the segments that have patches, for squares and blobs", () => {
    fc.assert(
      fc.property(fc.nat(1000), fc.integer({ min: 2, max: 20 }), (seed, count) =>
        tidy(() => {
          manualSeed(seed);
          const levels = blobLevels([6, 5], 4, { counts: [count, 3], deviation: [0.05, 0.6] });
          const ranks = rowsOf(segmentRanks(levels, 4, "random"));
          for (const [i, segments] of rowsOf(levels[0]!.parent).entries()) {
            expect(sequence(ranks[i]!, segments)).toHaveLength(new Set(segments).size);
          }
        }),
      ),
      { numRuns: 40 },
    );
  });

  test("a partition is finished before another begins, at every level", () => {
    manualSeed(3);
    for (const levels of [
      squareLevels([8, 8], 1, [2, 4]),
      squareLevels([8, 8], 2, [4]),
      blobLevels([8, 8], 30, { counts: [16, 6, 2], deviation: [0.1, 0.5] }),
    ]) {
      const ranks = rowsOf(segmentRanks(levels, 30, "random"));
      for (const [i, row] of ranks.entries()) {
        const own = (level: Level) => rowsOf(level.parent)[level.parent.size(0) === 1 ? 0 : i]!;
        const order = sequence(row, own(levels[0]!));
        let ancestors = order;
        for (const level of levels.slice(1)) {
          ancestors = ancestors.map((each) => own(level)[each]!);
          const runs = ancestors.filter((each, at) => each !== ancestors[at - 1]);
          expect(new Set(runs).size, `${runs}`).toBe(runs.length);
        }
      }
    }
  });

  test("random: new for each image, each segment equally often first; raster: always from the top left", () => {
    manualSeed(4);
    const levels = squareLevels([4, 4], 2, []);
    const [segments] = rowsOf(levels[0]!.parent) as [number[]];
    const orders = rowsOf(segmentRanks(levels, 2400, "random")).map((row) => sequence(row, segments).join());
    const counts = new Map<string, number>();
    for (const order of orders) counts.set(order, (counts.get(order) ?? 0) + 1);
    expect(counts.size).toBe(24);
    for (const count of counts.values()) expect(Math.abs(count - 100)).toBeLessThan(45);
    for (const row of rowsOf(segmentRanks(levels, 3, "raster"))) expect(sequence(row, segments)).toEqual([0, 1, 2, 3]);
    for (const row of rowsOf(segmentRanks(squareLevels([4, 4], 1, [2]), 2, "raster"))) {
      expect(row).toEqual([0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]);
    }
  });
});

describe("options", () => {
  const facts = { grid: [8, 8], width: 64, depth: 4, classToken: false, batchSize: 8 } as never;
  const issues = (options: object, more: object = {}) =>
    randsac.check!(randsacOptions.parse(options), { ...(facts as object), ...more } as never);

  test("auto drops where segments are of equal size", () => {
    expect(make().form).toBe("dropped");
    expect(make({ segments: { kind: "blob" } }).form).toBe("fixed");
    expect(make({ form: "fixed" }).form).toBe("fixed");
  });

  test("what does not fit is refused in a sentence", () => {
    expect(issues({})).toEqual([]);
    expect(issues({ segments: { kind: "square", side: 2, partitions: [4] } })).toEqual([]);
    expect(issues({ segments: { kind: "square", side: 3 } })).toEqual([
      { path: "segments.side", message: "is 3; expected a divisor of the 8x8 grid of patches" },
    ]);
    expect(issues({ segments: { kind: "square", side: 2, partitions: [4, 4] } })[0]!.path).toBe("segments.partitions.1");
    expect(issues({ segments: { kind: "square", side: 8 } })[0]!.message).toContain("nothing to predict");
    expect(issues({ segments: { kind: "blob" }, form: "dropped" })[0]!.path).toBe("form");
    expect(issues({ segments: { kind: "blob", deviation: [0.5, 0.1] } })[0]!.path).toBe("segments.deviation");
    expect(issues({ decoderHeads: 3 })[0]!.path).toBe("decoderHeads");
    expect(issues({}, { classToken: true })[0]!.message).toContain("model.classToken");
  });

  test("skips start at the last layer, evenly, or at random", () => {
    const weights = (skipInit: string) => make({ skipInit }).trainable.decoder.skipWeights!.tolist();
    expect(weights("last")).toEqual([
      [0, 1],
      [0, 1],
    ]);
    expect(weights("uniform")).toEqual([
      [0.5, 0.5],
      [0.5, 0.5],
    ]);
    expect(new Set((weights("normal") as number[][]).flat()).size).toBe(4);
    expect(make({ skips: "off" }).trainable.decoder.skipWeights).toBeNull();
  });
});

test("draws the order of the segments, and the steps", () => {
  const names = make()
    .picture(batchOf(fill([3, 3, 16, 16], 10).float()))
    .map(({ name }) => name);
  expect(names).toEqual(["segments", "steps"]);
});
