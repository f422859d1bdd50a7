// The region proposal network (Ren et al. 2015): which anchors hold something, and where it really is. torchvision's names and rules.
import { Conv2d, init, Module, ReLU, Sequential } from "../../nn/index.js";
import { atLeastFloat32, cat, noGrad, type Tensor, tidy, zeros } from "../../torch/index.js";
import type { AnchorGenerator } from "./anchors.js";
import { clipBoxes, decodeBoxes, encodeBoxes, type ImageSize } from "./boxes.js";
import { type BoxLoss, binaryCrossEntropy, boxLoss } from "./losses.js";
import { type MatchRule, matchBoxes, sampleBalanced } from "./matcher.js";
import { nms } from "./nms.js";
import { indexOf, type ReadyTarget } from "./targets.js";

export interface ProposalConfig {
  /** Proposals a level that go into the suppression, by objectness, while training and while testing. Default 2000, 1000. */
  preNmsTopN?: { training: number; testing: number };
  /** Proposals of an image that come out of it. Default 2000, 1000. */
  postNmsTopN?: { training: number; testing: number };
  /** Default 0.7. */
  nmsThresh?: number;
  /** Least objectness, 0 to 1. Default 0. */
  scoreThresh?: number;
  /** Overlaps from which an anchor is an object's and below which it is background. Default 0.7, 0.3. */
  fgIouThresh?: number;
  bgIouThresh?: number;
  /** Anchors of an image that the losses are taken of, and the share of objects' among them. Default 256, 0.5. */
  batchSizePerImage?: number;
  positiveFraction?: number;
  /** Default smooth-l1. */
  boxLoss?: BoxLoss;
}

export class RpnHead extends Module {
  conv: Sequential;
  clsLogits: Conv2d;
  bboxPred: Conv2d;

  constructor(channels: number, anchors: number) {
    super();
    const conv = new Conv2d(channels, channels, 3, { padding: 1 });
    this.conv = new Sequential(new Sequential(conv, new ReLU()));
    this.clsLogits = new Conv2d(channels, anchors, 1);
    this.bboxPred = new Conv2d(channels, 4 * anchors, 1);
    for (const each of [conv, this.clsLogits, this.bboxPred]) {
      init.normal_(each.weight, { std: 0.01 });
      init.constant_(each.bias!, 0);
    }
  }

  /** Objectness [B, cells * anchors] and corrections [B, cells * anchors, 4] of one level. */
  forward(map: Tensor): { objectness: Tensor; deltas: Tensor } {
    const batch = map.size(0);
    const hidden = this.conv.call(map);
    const objectness = this.clsLogits.call(hidden).permute([0, 2, 3, 1]).reshape([batch, -1]);
    const deltas = this.bboxPred.call(hidden).permute([0, 2, 3, 1]).reshape([batch, -1, 4]);
    return { objectness: atLeastFloat32(objectness), deltas: atLeastFloat32(deltas) };
  }
}

/** Boxes smaller than this, in pixels, are no proposals. */
const LEAST = 1e-3;

interface Level {
  objectness: Tensor;
  deltas: Tensor;
}

export class RegionProposalNetwork extends Module {
  head: RpnHead;
  readonly config: Readonly<Required<ProposalConfig>>;
  readonly #rule: MatchRule;

  constructor(
    channels: number,
    readonly anchors: AnchorGenerator,
    config: ProposalConfig = {},
  ) {
    super();
    this.head = new RpnHead(channels, anchors.perCell);
    this.config = {
      preNmsTopN: { training: 2000, testing: 1000 },
      postNmsTopN: { training: 2000, testing: 1000 },
      nmsThresh: 0.7,
      scoreThresh: 0,
      fgIouThresh: 0.7,
      bgIouThresh: 0.3,
      batchSizePerImage: 256,
      positiveFraction: 0.5,
      boxLoss: "smooth-l1",
      ...config,
    };
    this.#rule = { high: this.config.fgIouThresh, low: this.config.bgIouThresh, lowQuality: true };
  }

  /**
   * @param maps finest first
   * @param padded height and width of the images with their padding
   * @param sizes height and width of each image without it
   * @param targets what to find, while training
   */
  forward(
    maps: readonly Tensor[],
    padded: ImageSize,
    sizes: readonly ImageSize[],
    targets?: readonly ReadyTarget[],
  ): { proposals: Tensor[]; losses: { objectness: Tensor; rpnBoxReg: Tensor } | null } {
    const levels = maps.map((map) => this.head.call(map));
    const grids = maps.map((map) => map.shape.slice(2) as [number, number]);
    const anchors = this.anchors.forGrids(grids, padded, maps[0]!.device);
    const proposals = noGrad(() => tidy(() => this.#proposals(levels, anchors, sizes)));
    return { proposals, losses: targets ? tidy(() => this.#losses(levels, anchors, targets)) : null };
  }

  #proposals(levels: readonly Level[], anchors: Tensor, sizes: readonly ImageSize[]): Tensor[] {
    const { preNmsTopN, postNmsTopN, nmsThresh, scoreThresh } = this.config;
    const mode = this.training ? "training" : "testing";
    let offset = 0;
    const best = levels.map(({ objectness, deltas }) => {
      const count = objectness.size(1);
      const { values, indices } = objectness.topk(Math.min(preNmsTopN[mode], count), { dim: 1 });
      const at = { scores: values.sigmoid(), indices, deltas, anchors: anchors.narrow(0, offset, count) };
      offset += count;
      return at;
    });
    return sizes.map((size, image) =>
      tidy(() => {
        const groups: number[] = [];
        const parts = best.map(({ indices, deltas, anchors }, level) => {
          const rows = indices.select(0, image);
          for (let i = rows.size(0); i > 0; i--) groups.push(level);
          const codes = deltas.select(0, image).indexSelect(0, rows).unsqueeze(1);
          return decodeBoxes(codes, anchors.indexSelect(0, rows)).select(1, 0);
        });
        const boxes = clipBoxes(cat(parts), size);
        const scores = cat(best.map((each) => each.scores.select(0, image)));
        const rows = largeEnough(boxes, LEAST, scores.data() as Float32Array, (score) => score >= scoreThresh);
        const index = indexOf(rows, boxes.device);
        const [left, leftScores] = [boxes.indexSelect(0, index), scores.indexSelect(0, index)];
        const kept = nms(left, leftScores, nmsThresh, { groups: rows.map((i) => groups[i]!), most: postNmsTopN[mode] });
        return left.indexSelect(0, indexOf(kept, boxes.device));
      }),
    );
  }

  #losses(levels: readonly Level[], anchors: Tensor, targets: readonly ReadyTarget[]): { objectness: Tensor; rpnBoxReg: Tensor } {
    const { batchSizePerImage, positiveFraction } = this.config;
    const count = anchors.size(0);
    const [positive, negative, matched]: [number[], number[], Tensor[]] = [[], [], []];
    for (const [image, { boxes, crowds }] of targets.entries()) {
      const matches = matchBoxes(boxes, anchors, this.#rule, crowds);
      const sampled = sampleBalanced(matches, batchSizePerImage, positiveFraction);
      positive.push(...sampled.positive.map((i) => image * count + i));
      negative.push(...sampled.negative.map((i) => image * count + i));
      if (sampled.positive.length === 0) continue;
      const own = anchors.to(boxes.dtype).indexSelect(0, indexOf(sampled.positive, anchors.device));
      const theirs = boxes.indexSelect(0, indexOf(sampled.positive.map((i) => matches[i]!), anchors.device)); // biome-ignore format: one thought
      matched.push(encodeBoxes(theirs, own));
    }
    const { device } = anchors;
    const objectness = cat(levels.map((each) => each.objectness), 1).reshape([-1]); // biome-ignore format: one thought
    const deltas = cat(levels.map((each) => each.deltas), 1).reshape([-1, 4]); // biome-ignore format: one thought
    const sampled = positive.length + negative.length;
    const logits = objectness.indexSelect(0, indexOf([...positive, ...negative], device));
    const labels = zeros([sampled], { dtype: logits.dtype, device });
    if (positive.length > 0) labels.narrow(0, 0, positive.length).fill_(1);
    const corrections = deltas.indexSelect(0, indexOf(positive, device));
    const wanted = matched.length > 0 ? cat(matched).to(deltas.dtype) : corrections.detach();
    return {
      objectness: binaryCrossEntropy(logits, labels),
      rpnBoxReg: boxLoss(corrections, wanted, this.config.boxLoss).div(Math.max(1, sampled)),
    };
  }
}

/** Rows of boxes that are at least so many pixels wide and high, and whose score is good. */
export function largeEnough(boxes: Tensor, least: number, scores: ArrayLike<number>, good: (score: number) => boolean): number[] {
  const corners = tidy(() => boxes.contiguous().data()) as Float32Array;
  const rows: number[] = [];
  for (let i = 0; i < scores.length; i++) {
    const width = corners[4 * i + 2]! - corners[4 * i]!;
    const height = corners[4 * i + 3]! - corners[4 * i + 1]!;
    if (width >= least && height >= least && good(scores[i]!)) rows.push(i);
  }
  return rows;
}
