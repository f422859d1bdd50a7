// Boxes [n, 4] as left, top, right, bottom in pixels: their coding against reference boxes, areas, overlaps (torchvision's BoxCoder and box_iou).
import { stack, type Tensor, tidy } from "../../torch/index.js";

/** Height and width in pixels. */
export type ImageSize = readonly [height: number, width: number];

/** Factors on the coded x, y, width and height. */
export type BoxWeights = readonly [x: number, y: number, width: number, height: number];

/** The box head's; the proposal network has ones. */
export const BOX_WEIGHTS: BoxWeights = [10, 10, 5, 5];

/** Coded widths and heights are cut here before they go into the exponential: boxes grow at most 62.5 times. */
const MOST = Math.log(1000 / 16);

interface Centred {
  width: Tensor;
  height: Tensor;
  x: Tensor;
  y: Tensor;
}

function centred(boxes: Tensor): Centred {
  const [left, top, right, bottom] = boxes.unbind(-1) as [Tensor, Tensor, Tensor, Tensor];
  const [width, height] = [right.sub(left), bottom.sub(top)];
  return { width, height, x: left.add(width, { alpha: 0.5 }), y: top.add(height, { alpha: 0.5 }) };
}

/**
 * What has to be done to `from` to get `boxes`: shifts over the size, and logarithms of the ratio of sizes.
 *
 * @param boxes [n, 4]
 * @param from [n, 4], of some width and height
 * @returns [n, 4]
 */
export function encodeBoxes(boxes: Tensor, from: Tensor, weights: BoxWeights = [1, 1, 1, 1]): Tensor {
  return tidy(() => {
    const [to, at] = [centred(boxes), centred(from)];
    const [wx, wy, ww, wh] = weights;
    return stack(
      [
        to.x.sub(at.x).mul(wx).div(at.width),
        to.y.sub(at.y).mul(wy).div(at.height),
        to.width.div(at.width).log().mul(ww),
        to.height.div(at.height).log().mul(wh),
      ],
      1,
    );
  });
}

/**
 * The inverse of encodeBoxes, for one or several codes of each box.
 *
 * @param codes [n, k, 4]
 * @param from [n, 4]
 * @returns [n, k, 4]
 */
export function decodeBoxes(codes: Tensor, from: Tensor, weights: BoxWeights = [1, 1, 1, 1]): Tensor {
  return tidy(() => {
    const at = centred(from.to(codes.dtype).unsqueeze(1));
    const [dx, dy, dw, dh] = codes.unbind(-1).map((each, i) => each.div(weights[i]!)) as [Tensor, Tensor, Tensor, Tensor];
    const x = dx.mul(at.width).add(at.x);
    const y = dy.mul(at.height).add(at.y);
    const width = dw.clamp({ max: MOST }).exp().mul(at.width).mul(0.5);
    const height = dh.clamp({ max: MOST }).exp().mul(at.height).mul(0.5);
    return stack([x.sub(width), y.sub(height), x.add(width), y.add(height)], -1);
  });
}

/** [n, 4] -> [n] */
export function boxAreas(boxes: Tensor): Tensor {
  return tidy(() => {
    const [left, top, right, bottom] = boxes.unbind(-1) as [Tensor, Tensor, Tensor, Tensor];
    return right.sub(left).mul(bottom.sub(top));
  });
}

function sharedAreas(a: Tensor, b: Tensor): Tensor {
  const first = a.unsqueeze(1);
  const low = first.slice(2, 0, 2).maximum(b.slice(1, 0, 2));
  const high = first.slice(2, 2, 4).minimum(b.slice(1, 2, 4));
  const [width, height] = high.sub(low).clamp({ min: 0 }).unbind(-1) as [Tensor, Tensor];
  return width.mul(height);
}

/** Intersection over union of each pair: [m, 4] and [n, 4] -> [m, n]. */
export function boxIou(a: Tensor, b: Tensor): Tensor {
  return tidy(() => {
    const shared = sharedAreas(a, b);
    return shared.div(boxAreas(a).unsqueeze(1).add(boxAreas(b)).sub(shared));
  });
}

/** Intersection of each pair over the area of the box in `b`: [m, 4] and [n, 4] -> [m, n]. */
export function boxCoverage(a: Tensor, b: Tensor): Tensor {
  return tidy(() => sharedAreas(a, b).div(boxAreas(b).clamp({ min: 1e-12 })));
}

/** Boxes [..., 4] cut at the edges of an image. */
export function clipBoxes(boxes: Tensor, [height, width]: ImageSize): Tensor {
  return tidy(() => {
    const [left, top, right, bottom] = boxes.unbind(-1) as [Tensor, Tensor, Tensor, Tensor];
    const [x, y] = [(each: Tensor) => each.clamp({ min: 0, max: width }), (each: Tensor) => each.clamp({ min: 0, max: height })];
    return stack([x(left), y(top), x(right), y(bottom)], -1);
  });
}
