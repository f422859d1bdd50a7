// The parts of Mask R-CNN, and the whole of it, against torchvision: tests/reference/detection.py.
import { existsSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { collectGarbage } from "../../../tests/garbage.js";
import { expectClose, fill, readGolden, type Stored, testRegenerates, valuesOf } from "../../../tests/reference/golden.js";
import { setWeights } from "../../../tests/reference/vit-weights.js";
import { Conv2d, Module } from "../../nn/index.js";
import {
  autocast,
  fromTypedArray,
  getRngState,
  hasOp,
  loadLibrary,
  manualSeed,
  memoryStats,
  noGrad,
  type Tensor,
  tensor,
  tidy,
  zeros,
} from "../../torch/index.js";
import type { Encoder } from "../encoder.js";
import type { Pyramid } from "../pyramid.js";
import { AnchorGenerator } from "./anchors.js";
import { BOX_WEIGHTS, boxIou, clipBoxes, decodeBoxes, encodeBoxes } from "./boxes.js";
import { pasteMask, projectMasks } from "./mask-project.js";
import { MaskRcnn } from "./mask-rcnn.js";
import { MATCH, matchBoxes, sampleBalanced } from "./matcher.js";
import { nms } from "./nms.js";
import { boxLevels, roiAlign } from "./roi-align.js";

type Numbers = [norm: number, product: number];
interface Whole {
  losses: Record<string, number>;
  gradients: Record<string, Numbers>;
  targets: { boxes: Stored }[];
  found: { boxes: Stored; scores: Stored; labels: number[]; masks: Stored }[];
}
const golden = readGolden<
  {
    parts: Record<"encoded" | "decoded" | "iou" | "anchors" | "pasted", Stored> &
      Record<"matched" | "matched low" | "levels" | "nms of groups", number[]> & { nms: Record<string, number[]> };
    aligning: Record<string, { values: Stored; gradient: Stored }>;
  } & Record<string, unknown>
>("detection");

/** boxes_of() of detection.py. */
function boxesOf(count: number, seed: number, height: number, width: number): Tensor {
  return tidy(() => {
    const [a, b, c, d] = fill([count, 4], seed).add(1).div(2).toArray().reduce<number[][]>((rows, v, i) => {
      rows[i % 4]!.push(v);
      return rows;
    }, [[], [], [], []]) as [number[], number[], number[], number[]]; // biome-ignore format: four columns
    const rows = a.map((_, i) => {
      const [x, y] = [a[i]! * width * 0.9, b[i]! * height * 0.9];
      return [x - 3, y - 3, x + (c[i]! ** 2 * width * 0.7 + 2), y + (d[i]! ** 2 * height * 0.7 + 2)];
    });
    return tensor(count === 0 ? [] : rows, { dtype: "float64" }).reshape([count, 4]);
  });
}

describe("boxes", () => {
  const [a, b] = [boxesOf(6, 1, 60, 80), boxesOf(6, 2, 60, 80)];
  test("coding and decoding", () => {
    expectClose(encodeBoxes(a, b, BOX_WEIGHTS), golden.parts.encoded, 1e-12);
    const codes = fill([6, 8], 3).mul(12).view([6, 2, 4]);
    expectClose(decodeBoxes(codes, a, BOX_WEIGHTS).view([6, 8]), golden.parts.decoded, 1e-12);
    const back = decodeBoxes(encodeBoxes(a, b).unsqueeze(1), b).select(1, 0);
    expect(back.sub(a).abs().amax().item()).toBeLessThan(1e-9);
  });
  test("overlaps", () => {
    expectClose(boxIou(a, boxesOf(40, 4, 60, 80)), golden.parts.iou, 1e-12);
    expect(boxIou(zeros([0, 4]), zeros([3, 4])).shape).toEqual([0, 3]);
  });
  test("clipping keeps boxes inside", () => {
    const [left, top, right, bottom] = clipBoxes(tensor([[-5, -6, 200, 300]]), [20, 30]).toArray();
    expect([left, top, right, bottom]).toEqual([0, 0, 30, 20]);
  });
});

describe("anchors", () => {
  test("as torchvision's, on two levels", () => {
    const anchors = new AnchorGenerator({ sizes: [[8], [20]] });
    expectClose(anchors.forGrids([[6, 10], [3, 5]], [24, 40]), golden.parts.anchors, 0); // biome-ignore format: grids
    expect(anchors.perCell).toBe(3);
  });
  test("what does not fit is refused", () => {
    expect(() => new AnchorGenerator({ sizes: [[8], [8, 16]] })).toThrow("as many sizes at each level");
    expect(() => new AnchorGenerator({ sizes: [[-8]] })).toThrow("must be above 0");
    expect(() => new AnchorGenerator({ sizes: [[8]] }).forGrids([[2, 2], [1, 1]], [8, 8])).toThrow("1 levels, but 2 feature maps"); // biome-ignore format: grids
  });
});

describe("matching and sampling", () => {
  const objects = boxesOf(6, 1, 60, 80);
  const boxes = boxesOf(40, 4, 60, 80);
  test("as torchvision's Matcher", () => {
    expect([...matchBoxes(objects, boxes, { high: 0.5, low: 0.3 })]).toEqual(golden.parts.matched);
    expect([...matchBoxes(objects, boxes, { high: 0.7, low: 0.3, lowQuality: true })]).toEqual(golden.parts["matched low"]);
  });
  test("without objects all is background, without boxes there is nothing", () => {
    expect([...matchBoxes(zeros([0, 4]), boxes, { high: 0.5, low: 0.5 })]).toEqual(new Array(40).fill(MATCH.background));
    expect(matchBoxes(objects, zeros([0, 4]), { high: 0.5, low: 0.5 }).length).toBe(0);
  });
  test("background inside a crowd is ignored, matches there stay", () => {
    const at = tensor([[0, 0, 10, 10], [50, 50, 60, 60], [1, 1, 9, 9], [8, 0, 18, 10]]); // biome-ignore format: boxes
    const rule = { high: 0.5, low: 0.5 };
    const crowd = tensor([[0, 0, 12, 12]]);
    expect([...matchBoxes(tensor([[0, 0, 10, 10]]), at, rule, crowd)]).toEqual([0, MATCH.background, 0, MATCH.background]);
    expect([...matchBoxes(zeros([0, 4]), at, rule, crowd)]).toEqual([MATCH.ignored, MATCH.background, MATCH.ignored, MATCH.background]); // biome-ignore format: one thought
  });
  test("samples: never too many, the right kinds, filled up, the same from the same state", () => {
    const match = fc.constantFrom(0, 1, MATCH.background, MATCH.ignored);
    fc.assert(
      fc.property(fc.array(match, { maxLength: 60 }), fc.integer({ min: 1, max: 40 }), fc.double({ min: 0, max: 1, noNaN: true }), (list, count, fraction) => {
        const matches = Int32Array.from(list);
        manualSeed(3);
        const { positive, negative } = sampleBalanced(matches, count, fraction);
        const after = getRngState().toArray();
        const [objects, background] = [list.filter((each) => each >= 0).length, list.filter((each) => each === MATCH.background).length];
        expect(positive.length).toBe(Math.min(objects, Math.floor(count * fraction)));
        expect(negative.length).toBe(Math.min(background, count - positive.length));
        expect(positive.every((i) => matches[i]! >= 0) && negative.every((i) => matches[i] === MATCH.background)).toBe(true);
        expect([...positive, ...negative].length).toBe(new Set([...positive, ...negative]).size);
        manualSeed(3);
        expect(sampleBalanced(matches, count, fraction)).toEqual({ positive, negative });
        expect(getRngState().toArray()).toEqual(after);
      }),
      { numRuns: 40 },
    ); // biome-ignore format: one thought
  });
});

describe("non-maximum suppression", () => {
  const boxes = boxesOf(60, 7, 40, 40).float().round();
  const scores = fill([60], 6).mul(4).round().div(4).float();
  test("as torchvision.ops.nms, with equal scores and overlaps at the threshold", () => {
    for (const [threshold, kept] of Object.entries(golden.parts.nms)) {
      expect(nms(boxes, scores, Number(threshold), { own: true })).toEqual(kept);
      expect(nms(boxes, scores, Number(threshold), { own: true, most: 5 })).toEqual(kept.slice(0, 5));
    }
  });
  test("as batched_nms", () => {
    const groups = Array.from({ length: 60 }, (_, i) => i % 3);
    expect(nms(boxes, scores, 0.3, { groups, own: true })).toEqual(golden.parts["nms of groups"]);
  });
  test("no boxes, one box, boxes without area, a crowd of one group", () => {
    expect(nms(zeros([0, 4]), zeros([0]), 0.5)).toEqual([]);
    expect(nms(tensor([[1, 1, 5, 5]]), tensor([0.1]), 0.5)).toEqual([0]);
    expect(nms(tensor([[1, 1, 1, 1], [1, 1, 1, 1]]), tensor([0.1, 0.2]), 0.5)).toEqual([1, 0]); // biome-ignore format: boxes
    const many = zeros([300, 4]).add(tensor([0, 0, 1, 1]));
    expect(nms(many.add(tensor(Array.from({ length: 300 }, (_, i) => [2 * i]))), zeros([300]), 0.5).length).toBe(300);
  });
});

describe("RoIAlign", () => {
  const boxes = tensor([[3.2, 2.1, 20.7, 17.9], [-9, -7, 12, 11], [20, 15, 60, 50], [90, 80, 120, 99], [8.1, 8.2, 8.3, 8.9], [-30, -30, 90, 80]], { dtype: "float64" }); // biome-ignore format: boxes
  const images = [0, 1, 1, 0, 0, 1];
  /** The golden's boxes come by turns, ours image by image. */
  const order = [0, 3, 4, 1, 2, 5];
  const of = (image: number) => boxes.indexSelect(0, tensor(order.filter((i) => images[i] === image), { dtype: "int64" })); // biome-ignore format: one thought
  const options = (name: string) => ({ sampling: name.startsWith("two") ? 2 : 0, aligned: name.endsWith("aligned") });

  for (const [name, expected] of Object.entries(golden.aligning)) {
    test(`${name}: values and gradients`, () => {
      const map = fill([2, 3, 7, 9], 1).requiresGrad_();
      const out = roiAlign([{ map, scale: 0.25 }], [of(0), of(1)], { size: 4, ...options(name), own: true });
      const back = tensor(order.map((_, i) => order.indexOf(i)), { dtype: "int64" }); // biome-ignore format: one thought
      const inOrder = out.indexSelect(0, back);
      expectClose(inOrder, expected.values, 1e-12);
      inOrder.mul(fill(inOrder.shape, 2)).sum().backward();
      expectClose(map.grad!, expected.gradient, 1e-12);
    });
  }
  test("several levels give each box what its own level gives", () => {
    const maps = [0, 1, 2].map((i) => ({ map: fill([1, 2, 32 >> i, 40 >> i], i), scale: 1 / (4 << i) }));
    const own = tensor([[0, 0, 20, 30], [0, 0, 100, 90], [10, 10, 150, 128], [0, 0, 60, 60]], { dtype: "float64" }); // biome-ignore format: boxes
    const levels = boxLevels(own.data() as Float64Array, maps.map(({ scale }) => scale)); // biome-ignore format: one thought
    const out = roiAlign(maps, [own], { size: 3 });
    for (const [i, level] of levels.entries()) {
      const single = roiAlign([maps[level]!], [own.narrow(0, i, 1)], { size: 3 });
      expect(out.narrow(0, i, 1).sub(single).abs().amax().item()).toBeLessThan(1e-12);
    }
  });
  test("levels as torchvision's", () => {
    const corners = boxesOf(30, 5, 300, 700).float().data() as Float32Array;
    expect([...boxLevels(corners, [1 / 4, 1 / 8, 1 / 16, 1 / 32])]).toEqual(golden.parts.levels);
    expect([...boxLevels(Float32Array.of(0, 0, 0, 0), [1 / 4, 1 / 8])]).toEqual([0]);
  });
  test("no boxes, half precision, another number of images", () => {
    const map = fill([2, 3, 7, 9], 1).to("bfloat16");
    expect(roiAlign([{ map, scale: 0.25 }], [zeros([0, 4]), zeros([0, 4])], { size: 4 }).shape).toEqual([0, 3, 4, 4]);
    const out = autocast({}, () => roiAlign([{ map, scale: 0.25 }], [zeros([1, 4]), zeros([0, 4])], { size: 4 }));
    expect(out.dtype).toBe("float32");
    expect(() => roiAlign([{ map, scale: 0.25 }], [zeros([0, 4])], { size: 4 })).toThrow(
      "maps are of 2 images, but there are boxes of 1",
    );
  });
});

describe("masks", () => {
  test("pasted as torchvision's", () => {
    const masks = fill([5, 1, 6, 6], 8).float().add(1).div(2);
    const boxes = boxesOf(5, 9, 30, 40).float();
    const expected = valuesOf(golden.parts.pasted);
    for (let i = 0; i < 5; i++) {
      const { top, left, size, values } = pasteMask(masks.select(0, i).select(0, 0), boxes.select(0, i).toArray(), [30, 40]);
      const image = new Float64Array(30 * 40);
      for (let y = 0; y < size[0]; y++)
        for (let x = 0; x < size[1]; x++) image[(top + y) * 40 + left + x] = values[y * size[1] + x]!;
      expect([...image]).toEqual([...expected.subarray(i * 1200, (i + 1) * 1200)]);
    }
  });
  test("a box outside the image pastes nothing", () => {
    const { size, values } = pasteMask(zeros([4, 4]).add(1), [50, 50, 60, 60], [30, 40]);
    expect([size, values.length]).toEqual([[0, 0], 0]);
  });
  test("a full mask projects to ones inside of it, an empty one to zeros", () => {
    const masks = new Uint8Array(2 * 20 * 30).fill(1, 0, 600);
    const out = projectMasks(masks, [20, 30], Float32Array.of(2, 3, 17, 12, 2, 3, 17, 12), [0, 1], 7);
    for (const value of out.subarray(0, 49)) expect(value).toBeCloseTo(1, 5);
    expect(out.subarray(49).every((value) => value === 0)).toBe(true);
  });
});

/** Body of detection.py. */
class Body extends Module implements Pyramid {
  levels_: Conv2d[];
  readonly encoder = null as unknown as Encoder;
  readonly widths = [4, 6, 6, 8];
  readonly strides = [4, 8, 16, 32];
  readonly levels = [0, 1, 2, 3];
  constructor() {
    super();
    const shapes = [[3, 4, 4], [4, 6, 2], [6, 6, 2], [6, 8, 2]] as const; // biome-ignore format: a table
    this.levels_ = shapes.map(([from, to, side]) => new Conv2d(from, to, side, { stride: side }));
  }
  override *namedChildren(): IterableIterator<[string, Module]> {
    for (const [i, each] of this.levels_.entries()) yield [`levels.${i}`, each];
  }
  forward(images: Tensor): Tensor[] {
    const maps: Tensor[] = [];
    for (const level of this.levels_) maps.push(level.call(maps.at(-1) ?? images).tanh());
    return maps;
  }
}

function detector(options: { agnostic?: boolean; boxHead?: "2fc" | "4conv1fc" } = {}): MaskRcnn {
  const { agnostic = false, boxHead = "2fc" } = options;
  return new MaskRcnn(new Body(), {
    classes: 3,
    channels: 5,
    rpn: { preNmsTopN: { training: 60, testing: 40 }, postNmsTopN: { training: 50, testing: 30 }, batchSizePerImage: 1e6 },
    roi: { boxHead, boxSize: 3, boxWidth: 12, maskSize: 4, maskLayers: [6, 6], batchSizePerImage: 1e6, detectionsPerImg: 20, classAgnosticBoxes: agnostic, classAgnosticMasks: agnostic },
  }); // biome-ignore format: one thought
}

/** Images and targets of whole() in detection.py. */
function scene(sizes: readonly [number, number][], counts: readonly number[]) {
  const images = zeros([2, 3, 96, 128], { dtype: "float64" });
  const targets = sizes.map((size, i) => {
    const [height, width] = size;
    images
      .select(0, i)
      .narrow(1, 0, height)
      .narrow(2, 0, width)
      .copy_(fill([3, height, width], 1 + i));
    const boxes = clipBoxes(boxesOf(counts[i]!, 20 + i, height, width), size);
    const masks = new Uint8Array(counts[i]! * height * width);
    for (let n = 0; n < counts[i]!; n++) {
      const [l, t, r, b] = boxes.select(0, n).toArray() as [number, number, number, number];
      for (let y = 0; y < height; y++) {
        for (let x = 0; x < width; x++) {
          const away = ((x + 0.5 - (l + r) / 2) / ((r - l) / 2)) ** 2 + ((y + 0.5 - (t + b) / 2) / ((b - t) / 2)) ** 2;
          masks[(n * height + y) * width + x] = Number(away <= 1);
        }
      }
    }
    const labels = tensor(Array.from({ length: counts[i]! }, (_, n) => n % 3), { dtype: "int64" }); // biome-ignore format: one thought
    return {
      size,
      boxes,
      labels,
      masks: fromTypedArray(masks, [counts[i]!, height, width]),
      crowd: zeros([counts[i]!], { dtype: "bool" }),
    };
  });
  return { images, targets, sizes };
}

describe("Mask R-CNN", () => {
  const cases: Record<string, [[number, number][], number[]]> = {
    whole: [[[96, 120], [80, 128]], [3, 2]],
    "an image without objects": [[[96, 128], [64, 100]], [2, 0]],
    "no object at all": [[[96, 128], [64, 100]], [0, 0]],
  }; // biome-ignore format: a table
  for (const [name, [sizes, counts]] of Object.entries(cases)) {
    test(`${name}: losses, gradients and detections`, () => {
      const expected = golden[name] as Whole;
      const model = setWeights(detector().to("float64"));
      const { images, targets } = scene(sizes, counts);
      const losses = model.train().losses(images, targets);
      expect(Object.keys(losses).sort()).toEqual(Object.keys(expected.losses).sort());
      for (const [key, value] of Object.entries(losses)) expect(value.item(), key).toBeCloseTo(expected.losses[key]!, 9);
      Object.values(losses).reduce((a, b) => a.add(b)).backward(); // biome-ignore format: one thought
      for (const [key, parameter] of model.namedParameters()) {
        const gradient = parameter.grad;
        const numbers: Numbers = gradient ? [gradient.norm().item(), gradient.mul(fill(gradient.shape, 3)).sum().item()] : [0, 0];
        const wanted = expected.gradients[key] ?? [0, 0];
        for (const i of [0, 1] as const) expect(Math.abs(numbers[i] - wanted[i]), key).toBeLessThan(1e-6 * (1 + wanted[0]));
      }
      const found = noGrad(() => model.eval().call(images, sizes));
      for (const [i, each] of found.entries()) {
        const { boxes, scores, labels, masks } = expected.found[i]!;
        expect(each.labels.toArray()).toEqual(labels);
        expectClose(each.boxes, boxes, 1e-8);
        expectClose(each.scores, scores, 1e-8);
        expectClose(each.masks!.slice(1, 0, undefined, 3).slice(2, 0, undefined, 3), masks, 1e-8);
      }
    });
  }
  testRegenerates("detection", ["torch", "torchvision"]);

  test("class-agnostic boxes and masks, the head of four convolutions: every weight learns", () => {
    manualSeed(1);
    const { images, targets } = scene([[96, 120], [80, 128]], [3, 2]); // biome-ignore format: sizes
    const model = detector({ agnostic: true, boxHead: "4conv1fc" });
    const losses = Object.values(model.losses(images.float(), targets));
    losses.reduce((a, b) => a.add(b)).backward();
    const still = [...model.namedParameters()].filter(([, each]) => !each.grad?.isFinite().all().item()).map(([name]) => name);
    expect(still).toEqual([]);
    expect(model.stateDict().get("roi_heads.mask_predictor.mask_fcn_logits.weight")!.shape[0]).toBe(1);
    const [found] = noGrad(() => model.eval().call(images.float(), [[96, 120], [80, 128]])); // biome-ignore format: sizes
    expect(found!.masks!.shape.slice(1)).toEqual([8, 8]);
  });

  test("boxes without area and crowds are no objects", () => {
    const { images, targets, sizes } = scene([[96, 120], [80, 128]], [3, 2]); // biome-ignore format: sizes
    const model = setWeights(detector().to("float64"));
    const plain = tidy(() => Object.values(model.losses(images, targets)).map((each) => each.item()));
    const more = targets.map(({ size, boxes, labels, masks, crowd }) => ({
      size,
      boxes: fromTypedArray(Float64Array.of(...boxes.toArray(), 5, 5, 5, 9), [boxes.size(0) + 1, 4]),
      labels: fromTypedArray(BigInt64Array.from([...labels.toArray(), 2], BigInt)),
      masks: fromTypedArray(Uint8Array.from([...(masks.data() as Uint8Array), ...new Uint8Array(size[0] * size[1])]), [boxes.size(0) + 1, ...size]),
      crowd: fromTypedArray(Uint8Array.from([...(crowd.data() as Uint8Array), 0]), undefined, { dtype: "bool" }),
    })); // biome-ignore format: one thought
    expect(tidy(() => Object.values(model.losses(images, more)).map((each) => each.item()))).toEqual(plain);
    const crowds = targets.map((each) => ({
      ...each,
      crowd: zeros([each.labels.size(0)])
        .add(1)
        .to("bool"),
    }));
    const losses = tidy(() => Object.values(model.losses(images, crowds)).map((each) => each.item()));
    expect(losses.every(Number.isFinite)).toBe(true);
    expect([losses[1], losses[3], losses[4]]).toEqual([0, 0, 0]);
    expect(sizes.length).toBe(2);
  });

  test("padding of the batch on the right changes nothing inside: proposals stay in the image", () => {
    const { images, sizes } = scene([[96, 120], [80, 128]], [0, 0]); // biome-ignore format: sizes
    const found = noGrad(() => setWeights(detector().to("float64")).eval().call(images, sizes));
    for (const [i, { boxes }] of found.entries()) {
      const [, , right, bottom] = boxes.amax(0).toArray() as [number, number, number, number];
      expect(right).toBeLessThanOrEqual(sizes[i]![1]);
      expect(bottom).toBeLessThanOrEqual(sizes[i]![0]);
    }
  });

  test("no handle is left over, neither by a step nor by an evaluation", () => {
    const { images, targets, sizes } = scene([[96, 120], [80, 128]], [3, 2]); // biome-ignore format: sizes
    const model = setWeights(detector().to("float64"));
    const counts = Array.from({ length: 3 }, () => {
      tidy(() => void Object.values(model.train().losses(images, targets)).reduce((a, b) => a.add(b)).backward()); // biome-ignore format: one thought
      model.zeroGrad();
      tidy(() => noGrad(() => void model.eval().call(images, sizes)));
      collectGarbage();
      return memoryStats().handles;
    });
    expect(new Set(counts).size).toBe(1);
  });

  test("what does not fit is refused", () => {
    expect(() => new MaskRcnn(new Body(), { classes: 0 })).toThrow("at least one class, got 0");
    const { images } = scene([[96, 120], [80, 128]], [0, 0]); // biome-ignore format: sizes
    expect(() =>
      detector()
        .to("float64")
        .detect(images, [[96, 120]]),
    ).toThrow("2 images, but 1 sizes");
  });
});

const library = process.env.TORCHVISION_LIBRARY ?? "";
test.runIf(existsSync(library))(
  "torchvision's own operators, loaded, give the same (set TORCHVISION_LIBRARY to its _C.so)",
  () => {
    loadLibrary(library);
    expect(hasOp("torchvision::roi_align") && hasOp("torchvision::nms")).toBe(true);
    const boxes = boxesOf(60, 7, 40, 40).float().round();
    const scores = fill([60], 6).mul(4).round().div(4).float();
    const groups = Array.from({ length: 60 }, (_, i) => i % 3);
    for (const each of [{}, { groups }])
      expect(nms(boxes, scores, 0.3, each)).toEqual(nms(boxes, scores, 0.3, { ...each, own: true }));
    for (const options of [{ sampling: 2 }, { sampling: 0 }, { sampling: 2, aligned: true }]) {
      const results = [false, true].map((own) => {
        const maps = [0, 1].map((i) => ({ map: fill([1, 2, 16 >> i, 20 >> i], i).requiresGrad_(), scale: 1 / (4 << i) }));
        const out = roiAlign(maps, [boxesOf(20, 3, 64, 80)], { size: 3, own, ...options });
        out.mul(fill(out.shape, 2)).sum().backward();
        return [out, ...maps.map(({ map }) => map.grad!)];
      });
      for (const [i, each] of results[0]!.entries()) expect(each.sub(results[1]![i]!).abs().amax().item()).toBeLessThan(1e-9);
    }
  },
);
