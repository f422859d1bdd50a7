// What is in the proposals (Ren et al. 2015; He et al. 2017): their classes, their boxes once more, their masks. torchvision's names and rules.
import { Module, type Sequential } from "../../nn/index.js";
import { atLeastFloat32, cat, crossEntropy, fromTypedArray, type Tensor, tidy } from "../../torch/index.js";
import { BOX_WEIGHTS, clipBoxes, decodeBoxes, encodeBoxes, type ImageSize } from "./boxes.js";
import { convBoxHead, FastRcnnPredictor, MaskRcnnPredictor, maskHead, TwoMlpHead } from "./heads.js";
import { type BoxLoss, binaryCrossEntropy, boxLoss } from "./losses.js";
import { projectMasks } from "./mask-project.js";
import { matchBoxes, sampleBalanced } from "./matcher.js";
import { nms } from "./nms.js";
import { roiAlign, type ScaledMap } from "./roi-align.js";
import { largeEnough } from "./rpn.js";
import { indexOf, type ReadyTarget } from "./targets.js";

export interface RoiConfig {
  /** `2fc`: two fully connected layers; `4conv1fc`: four convolutions before one. Default 2fc. */
  boxHead?: "2fc" | "4conv1fc";
  /** Width of the fully connected layers. Default 1024. */
  boxWidth?: number;
  /** Bins of a region for the box head. Default 7. */
  boxSize?: number;
  /** One correction of the box for all classes. Default false. */
  classAgnosticBoxes?: boolean;
  /** Whether there is a mask head. Default true. */
  masks?: boolean;
  /** Channels of its convolutions. Default 256, four times. */
  maskLayers?: readonly number[];
  /** Bins of a region for the mask head; masks are twice as fine. Default 14. */
  maskSize?: number;
  /** One mask for all classes. Default false. */
  classAgnosticMasks?: boolean;
  /** Samples in a bin, both ways. Default 2. */
  samplingRatio?: number;
  /** See RoiAlignOptions. Default false. */
  aligned?: boolean;
  /** Overlaps from which a proposal is an object's and below which it is background. Default 0.5, 0.5. */
  fgIouThresh?: number;
  bgIouThresh?: number;
  /** Proposals of an image that the losses are taken of, and the share of objects' among them. Default 512, 0.25. */
  batchSizePerImage?: number;
  positiveFraction?: number;
  /** Default smooth-l1. */
  boxLoss?: BoxLoss;
  /** Least score of a detection. Default 0.05. */
  scoreThresh?: number;
  /** Default 0.5. */
  nmsThresh?: number;
  /** Default 100. */
  detectionsPerImg?: number;
}

/** What was found in one image, best first, in pixels of the image as the network sees it. */
export interface Detections {
  /** [n, 4]: left, top, right, bottom. */
  boxes: Tensor;
  /** [n] */
  scores: Tensor;
  /** int64 [n], 0 to K - 1. */
  labels: Tensor;
  /** Probabilities on a grid over the box [n, s, s]; null of a detector without masks. pasteMask makes pixels of them. */
  masks: Tensor | null;
}

export interface RoiLosses {
  classifier: Tensor;
  boxReg: Tensor;
  mask: Tensor | null;
}

interface Chosen {
  boxes: Tensor;
  /** 0 is the background. */
  labels: number[];
  /** The object each box is matched with; of the background any. */
  objects: number[];
}

/** Detections that are smaller than this, in pixels, are dropped. */
const LEAST = 1e-2;

export class RoiHeads extends Module {
  boxHead: TwoMlpHead | Sequential;
  boxPredictor: FastRcnnPredictor;
  maskHead: Sequential | null;
  maskPredictor: MaskRcnnPredictor | null;
  readonly config: Readonly<Required<RoiConfig>>;

  constructor(
    channels: number,
    readonly classes: number,
    config: RoiConfig = {},
  ) {
    super();
    this.config = {
      boxHead: "2fc",
      boxWidth: 1024,
      boxSize: 7,
      classAgnosticBoxes: false,
      masks: true,
      maskLayers: [256, 256, 256, 256],
      maskSize: 14,
      classAgnosticMasks: false,
      samplingRatio: 2,
      aligned: false,
      fgIouThresh: 0.5,
      bgIouThresh: 0.5,
      batchSizePerImage: 512,
      positiveFraction: 0.25,
      boxLoss: "smooth-l1",
      scoreThresh: 0.05,
      nmsThresh: 0.5,
      detectionsPerImg: 100,
      ...config,
    };
    const { boxSize, boxWidth, maskLayers, masks, classAgnosticBoxes, classAgnosticMasks } = this.config;
    this.boxHead =
      this.config.boxHead === "2fc"
        ? new TwoMlpHead(channels * boxSize * boxSize, boxWidth)
        : convBoxHead(channels, boxSize, boxWidth);
    this.boxPredictor = new FastRcnnPredictor(boxWidth, classes, classAgnosticBoxes);
    const last = maskLayers.at(-1) ?? channels;
    this.maskHead = masks ? maskHead(channels, maskLayers) : null;
    this.maskPredictor = masks ? new MaskRcnnPredictor(last, last, classes, classAgnosticMasks) : null;
  }

  /** As detect. */
  forward(maps: readonly ScaledMap[], proposals: readonly Tensor[], sizes: readonly ImageSize[]): Detections[] {
    return this.detect(maps, proposals, sizes);
  }

  /** The losses of proposals, with the objects themselves among them so that there is always something right. */
  losses(maps: readonly ScaledMap[], proposals: readonly Tensor[], targets: readonly ReadyTarget[]): RoiLosses {
    return tidy(() => {
      const chosen = proposals.map((boxes, i) => this.#choose(boxes.to(targets[i]!.boxes.dtype), targets[i]!));
      const labels = chosen.flatMap((each) => each.labels);
      const { logits, deltas } = this.#predict(maps, chosen.map(({ boxes }) => boxes)); // biome-ignore format: one thought
      const { device, dtype } = logits;
      const rows = Array.from(labels.keys()).filter((i) => labels[i]! > 0);
      const wanted = chosen.flatMap(({ boxes, labels: own, objects }, i) => {
        const here = Array.from(own.keys()).filter((row) => own[row]! > 0);
        if (here.length === 0) return [];
        const theirs = targets[i]!.boxes.indexSelect(0, indexOf(here.map((row) => objects[row]!), device)); // biome-ignore format: one thought
        return [encodeBoxes(theirs, boxes.indexSelect(0, indexOf(here, device)), BOX_WEIGHTS)];
      });
      const corrections = this.#ofClass(deltas, rows, rows.map((i) => labels[i]!)); // biome-ignore format: one thought
      const expected = wanted.length > 0 ? cat(wanted).to(dtype) : corrections.detach();
      return {
        classifier: crossEntropy(logits, indexOf(labels, device)),
        boxReg: boxLoss(corrections, expected, this.config.boxLoss).div(Math.max(1, labels.length)),
        mask: this.maskHead ? this.#maskLoss(maps, chosen, targets) : null,
      };
    });
  }

  detect(maps: readonly ScaledMap[], proposals: readonly Tensor[], sizes: readonly ImageSize[]): Detections[] {
    return tidy(() => {
      const { logits, deltas } = this.#predict(maps, proposals);
      const probabilities = logits.softmax(-1);
      let offset = 0;
      const found = proposals.map((boxes, i) => {
        const count = boxes.size(0);
        const at = offset;
        offset += count;
        return this.#select(probabilities.narrow(0, at, count), deltas.narrow(0, at, count), boxes, sizes[i]!);
      });
      const masks = this.maskHead ? this.#masks(maps, found) : null;
      return found.map((each, i) => ({ ...each, masks: masks ? masks[i]! : null }));
    });
  }

  #choose(proposals: Tensor, { boxes, labels, crowds }: ReadyTarget): Chosen {
    return tidy(() => {
      const { fgIouThresh: high, bgIouThresh: low, batchSizePerImage, positiveFraction } = this.config;
      const all = cat([proposals, boxes]);
      const matches = matchBoxes(boxes, all, { high, low }, crowds);
      const { positive, negative } = sampleBalanced(matches, batchSizePerImage, positiveFraction);
      const rows = [...positive, ...negative].sort((a, b) => a - b);
      return {
        boxes: all.indexSelect(0, indexOf(rows, all.device)),
        labels: rows.map((i) => (matches[i]! >= 0 ? labels[matches[i]!]! : 0)),
        objects: rows.map((i) => Math.max(0, matches[i]!)),
      };
    });
  }

  #predict(maps: readonly ScaledMap[], boxes: readonly Tensor[]): { logits: Tensor; deltas: Tensor } {
    const { boxSize: size, samplingRatio: sampling, aligned } = this.config;
    const pooled = roiAlign(maps, boxes, { size, sampling, aligned });
    const { logits, deltas } = this.boxPredictor.call(this.boxHead.call(pooled) as Tensor);
    return { logits: atLeastFloat32(logits), deltas: atLeastFloat32(deltas) };
  }

  /** For each of some rows of [n, K + 1 or 1, ...] what belongs to its class. */
  #ofClass(values: Tensor, rows: readonly number[], classes: readonly number[]): Tensor {
    const count = values.size(1);
    const places = rows.map((row, i) => row * count + (count === 1 ? 0 : classes[i]!));
    return values.flatten(0, 1).indexSelect(0, indexOf(places, values.device));
  }

  #select(probabilities: Tensor, deltas: Tensor, proposals: Tensor, size: ImageSize): Omit<Detections, "masks"> {
    const { scoreThresh, nmsThresh, detectionsPerImg } = this.config;
    const { device } = probabilities;
    const count = proposals.size(0);
    const classes = this.classes;
    const scores = probabilities.slice(1, 1).reshape([-1]);
    // Few of all pairs of proposal and class are likely: only their boxes are made.
    const likely: number[] = [];
    for (const [i, score] of (scores.data() as Float32Array).entries()) if (score > scoreThresh) likely.push(i);
    const codes = this.#ofClass(deltas, likely.map((i) => Math.floor(i / classes)), likely.map((i) => (i % classes) + 1)); // biome-ignore format: one thought
    const from = count === 0 ? proposals : proposals.indexSelect(0, indexOf(likely.map((i) => Math.floor(i / classes)), device)); // biome-ignore format: one thought
    const boxes = clipBoxes(decodeBoxes(codes.unsqueeze(1), from, BOX_WEIGHTS).select(1, 0), size);
    const own = scores.indexSelect(0, indexOf(likely, device));
    const large = largeEnough(boxes, LEAST, likely, () => true);
    const index = indexOf(large, device);
    const [left, leftScores] = [boxes.indexSelect(0, index), own.indexSelect(0, index)];
    const labels = large.map((i) => likely[i]! % classes);
    const kept = nms(left, leftScores, nmsThresh, { groups: labels, most: detectionsPerImg });
    const best = indexOf(kept, device);
    return {
      boxes: left.indexSelect(0, best),
      scores: leftScores.indexSelect(0, best),
      labels: indexOf(kept.map((i) => labels[i]!), device),
    }; // biome-ignore format: one thought
  }

  #maskLogits(maps: readonly ScaledMap[], boxes: readonly Tensor[]): Tensor {
    const { maskSize: size, samplingRatio: sampling, aligned } = this.config;
    const pooled = roiAlign(maps, boxes, { size, sampling, aligned });
    return atLeastFloat32(this.maskPredictor!.call(this.maskHead!.call(pooled)));
  }

  #maskLoss(maps: readonly ScaledMap[], chosen: readonly Chosen[], targets: readonly ReadyTarget[]): Tensor {
    const labels: number[] = [];
    const projected: Float32Array[] = [];
    const size = 2 * this.config.maskSize;
    const boxes = chosen.map(({ boxes: all, labels: own, objects }, i) => {
      const { masks, places, size: image } = targets[i]!;
      const here = Array.from(own.keys()).filter((row) => own[row]! > 0);
      const mine = all.indexSelect(0, indexOf(here, all.device));
      if (here.length === 0) return mine;
      if (!masks) throw new Error("internal: a detector with masks was given an image without them");
      labels.push(...here.map((row) => own[row]!));
      const objectOf = here.map((row) => places[objects[row]!]!);
      const pixels = masks.data() as Uint8Array;
      projected.push(projectMasks(pixels, image, mine.data() as Float32Array, objectOf, size));
      return mine;
    });
    // Without a box to look at, a mask loss of 0 that still depends on the weights.
    if (labels.length === 0) return [...this.maskHead!.parameters(), ...this.maskPredictor!.parameters()].reduce((sum, each) => sum.add(each.sum().mul(0)), maps[0]!.map.sum().mul(0)); // biome-ignore format: one thought
    const logits = this.#maskLogits(maps, boxes);
    const own = this.#ofClass(logits, Array.from(labels.keys()), labels);
    const values = new Float32Array(projected.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const each of projected) {
      values.set(each, at);
      at += each.length;
    }
    return binaryCrossEntropy(own, fromTypedArray(values, [labels.length, size, size], { device: own.device }).to(own.dtype));
  }

  #masks(maps: readonly ScaledMap[], found: readonly Omit<Detections, "masks">[]): Tensor[] {
    const counts = found.map(({ boxes }) => boxes.size(0));
    const total = counts.reduce((a, b) => a + b, 0);
    const labels = found.flatMap((each) => each.labels.toArray().map((label) => label + 1));
    const own = this.#ofClass(this.#maskLogits(maps, found.map(({ boxes }) => boxes)), Array.from({ length: total }, (_, i) => i), labels).sigmoid(); // biome-ignore format: one thought
    let at = 0;
    return counts.map((count) => {
      at += count;
      return own.narrow(0, at - count, count);
    });
  }
}
