// Non-maximum suppression: of boxes that overlap, the one with the highest score stays (torchvision.ops.nms and batched_nms).
import { fromTypedArray, hasOp, ops, type Tensor, tidy } from "../../torch/index.js";

export interface NmsOptions {
  /** One number a box: only boxes of one group (a class, a level) are compared. Default: all are. */
  groups?: ArrayLike<number>;
  /** Stop after so many. Default: never. */
  most?: number;
  /** Use this file's form also where torchvision's operator is loaded. Default false. */
  own?: boolean;
}

/**
 * Boxes that stay, by descending score; of equal scores the earlier first. A box goes when it overlaps one that stays by more than `threshold`.
 *
 * @param boxes float32 [n, 4]
 * @param scores [n]
 */
export function nms(boxes: Tensor, scores: Tensor, threshold: number, options: NmsOptions = {}): number[] {
  const { groups, most = Number.POSITIVE_INFINITY, own = false } = options;
  const order = tidy(() => Array.from(scores.argsort({ dim: 0, descending: true }).data() as BigInt64Array, Number));
  if (own || !hasOp("torchvision::nms")) return suppress(order, boxes, threshold, groups, most);
  const stays = byOperator(order, boxes, scores, threshold, groups);
  return order.filter((i) => stays.has(i)).slice(0, most);
}

function byOperator(order: number[], boxes: Tensor, scores: Tensor, threshold: number, groups?: ArrayLike<number>): Set<number> {
  const members = new Map<number, number[]>();
  for (const i of order) {
    const group = groups?.[i] ?? 0;
    const list = members.get(group);
    if (list) list.push(i);
    else members.set(group, [i]);
  }
  const stays = new Set<number>();
  for (const list of members.values()) {
    tidy(() => {
      const index = fromTypedArray(BigInt64Array.from(list, BigInt), [list.length], { device: boxes.device as "cpu" });
      const kept = ops.torchvision!.nms!(boxes.indexSelect(0, index), scores.indexSelect(0, index), threshold) as Tensor;
      for (const i of kept.data() as BigInt64Array) stays.add(list[Number(i)]!);
    });
  }
  return stays;
}

/** Boxes that stay, one after another: left, top, right, bottom, area. */
interface Kept {
  values: Float32Array;
  length: number;
}

function suppress(
  order: readonly number[],
  boxes: Tensor,
  threshold: number,
  groups: ArrayLike<number> | undefined,
  most: number,
) {
  const corners = tidy(() => boxes.float().data()) as Float32Array;
  const kept: number[] = [];
  const lists = new Map<number, Kept>();
  for (const i of order) {
    if (kept.length >= most) break;
    const [left, top, right, bottom] = corners.subarray(4 * i, 4 * i + 4) as unknown as [number, number, number, number];
    const area = Math.fround(Math.fround(right - left) * Math.fround(bottom - top));
    const group = groups?.[i] ?? 0;
    let list = lists.get(group);
    if (!list) {
      list = { values: new Float32Array(5 * 64), length: 0 };
      lists.set(group, list);
    }
    if (overlapsAny(list, left, top, right, bottom, area, threshold)) continue;
    kept.push(i);
    if (list.length === list.values.length) {
      const grown = new Float32Array(2 * list.length);
      grown.set(list.values);
      list.values = grown;
    }
    list.values.set([left, top, right, bottom, area], list.length);
    list.length += 5;
  }
  return kept;
}

/** Every step is rounded to float32, as torchvision's kernel computes, so that overlaps at the very threshold fall on its side. */
function overlapsAny(
  { values, length }: Kept,
  left: number,
  top: number,
  right: number,
  bottom: number,
  area: number,
  threshold: number,
): boolean {
  for (let at = 0; at < length; at += 5) {
    const width = Math.fround(Math.min(right, values[at + 2]!) - Math.max(left, values[at]!));
    if (!(width > 0)) continue;
    const height = Math.fround(Math.min(bottom, values[at + 3]!) - Math.max(top, values[at + 1]!));
    if (!(height > 0)) continue;
    const shared = Math.fround(width * height);
    const union = Math.fround(Math.fround(values[at + 4]! + area) - shared);
    if (Math.fround(shared / union) > threshold) return true;
  }
  return false;
}
