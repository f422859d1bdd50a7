// Which object an anchor or a proposal stands for (torchvision's Matcher), what crowds hide, and which ones a loss is taken of.
import { randperm, type Tensor, tidy } from "../../torch/index.js";
import { boxCoverage, boxIou } from "./boxes.js";

/** Matches below 0: background, and what is left out of the losses. */
export const MATCH = { background: -1, ignored: -2 } as const;

export interface MatchRule {
  /** Least overlap with an object for a match. */
  high: number;
  /** Overlaps below are background; between the two, the box is ignored. */
  low: number;
  /** Each object also gets the boxes that overlap it most, however little that is. Default false. */
  lowQuality?: boolean;
}

/** A background box that lies in a crowd by more than this share of its area is ignored (Detectron's crowd filter). */
const CROWD = 0.7;

/**
 * The object each box is matched with, or MATCH.background, MATCH.ignored.
 *
 * @param objects [m, 4]
 * @param boxes [n, 4]
 * @param crowds [c, 4]: regions with many objects, where nothing is known to be background
 * @returns one number a box
 */
export function matchBoxes(objects: Tensor, boxes: Tensor, rule: MatchRule, crowds?: Tensor): Int32Array {
  const matches = objects.size(0) === 0 ? new Int32Array(boxes.size(0)).fill(MATCH.background) : byOverlap(objects, boxes, rule);
  if (crowds && crowds.size(0) > 0 && boxes.size(0) > 0) {
    const covered = tidy(() => boxCoverage(crowds, boxes).amax(0).data()) as Float32Array;
    for (const [i, share] of covered.entries()) if (matches[i] === MATCH.background && share > CROWD) matches[i] = MATCH.ignored;
  }
  return matches;
}

function byOverlap(objects: Tensor, boxes: Tensor, { high, low, lowQuality = false }: MatchRule): Int32Array {
  if (boxes.size(0) === 0) return new Int32Array(0);
  const { best, which, forced } = tidy(() => {
    const overlaps = boxIou(objects, boxes);
    const { values, indices } = overlaps.max(0);
    const best = values.data() as Float32Array;
    const which = indices.data() as BigInt64Array;
    if (!lowQuality) return { best, which, forced: null };
    const most = overlaps.max(1, { keepdim: true }).values;
    return { best, which, forced: overlaps.eq(most).to("uint8").amax(0).data() as Uint8Array };
  });
  return Int32Array.from(best, (overlap, i) => {
    if (overlap >= high || forced?.[i]) return Number(which[i]);
    // An overlap that is no number (of a box without area with itself) is neither below nor above.
    return overlap < low ? MATCH.background : overlap < high ? MATCH.ignored : Number(which[i]);
  });
}

/** Which boxes a loss is taken of. */
export interface Sampled {
  /** Numbers of boxes that are matched, and of some that are background, ascending each. */
  positive: number[];
  negative: number[];
}

/**
 * Draws boxes for a loss: at most `count`, at most `fraction` of them matched (torchvision's BalancedPositiveNegativeSampler). Randomness comes from
 * the default generator.
 */
export function sampleBalanced(matches: Int32Array, count: number, fraction: number): Sampled {
  const positive: number[] = [];
  const negative: number[] = [];
  for (const [i, match] of matches.entries()) {
    if (match >= 0) positive.push(i);
    else if (match === MATCH.background) negative.push(i);
  }
  const chosen = draw(positive, Math.floor(count * fraction));
  return { positive: chosen, negative: draw(negative, count - chosen.length) };
}

/** At most `most` of a list, by chance, in their order. */
function draw(from: readonly number[], most: number): number[] {
  // Always asked, so that the generator's state does not hang on what happened to match.
  const order = tidy(() => randperm(from.length).data()) as BigInt64Array;
  return Array.from(order.subarray(0, most), (i) => from[Number(i)]!).sort((a, b) => a - b);
}
