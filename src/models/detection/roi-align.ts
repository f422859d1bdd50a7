// RoIAlign over feature maps of several levels, made of ATen's operators alone, so that gradients come by themselves: all maps as one table of
// cells, from which each bin gathers the cells that its samples lie between. Equal to torchvision.ops.roi_align and MultiScaleRoIAlign.
import { ShapeError } from "../../nn/index.js";
import { atLeastFloat32, autocast, cat, fromTypedArray, hasOp, ops, type Tensor, tidy } from "../../torch/index.js";
import { axisRegion, axisTaps, roundingOf } from "./roi-taps.js";

export interface RoiAlignOptions {
  /** Bins of each region, both ways. */
  size: number;
  /** Samples in each bin, both ways; 0 for as many as a bin has cells. Default 2. */
  sampling?: number;
  /** Cells' centres at whole numbers, as Detectron2 has it; torchvision's default is false. Default false. */
  aligned?: boolean;
  /** Use this file's form also where torchvision's operator is loaded. Default false. */
  own?: boolean;
}

/** One feature map and its cells over the pixels of the image, per side. */
export interface ScaledMap {
  /** [B, C, H, W] */
  map: Tensor;
  scale: number;
}

/**
 * The level whose cells fit the size of each box (Lin et al. 2017, "Feature Pyramid Networks", equation 1): boxes of 224 px belong to cells of
 * 16 px, those of half the side to the next finer level.
 *
 * @param boxes float32 or float64 numbers, four a box
 * @param scales of the levels, finest first, each half of the one before
 */
export function boxLevels(boxes: Float32Array | Float64Array, scales: readonly number[]): Int32Array {
  const round = roundingOf(boxes instanceof Float64Array ? "float64" : "float32");
  const finest = Math.round(-Math.log2(scales[0]!));
  return Int32Array.from({ length: boxes.length / 4 }, (_, i) => {
    const [left, top, right, bottom] = boxes.subarray(4 * i, 4 * i + 4) as unknown as [number, number, number, number];
    const side = round(Math.sqrt(round(round(right - left) * round(bottom - top))));
    const level = Math.floor(round(round(4 + round(Math.log2(round(side / 224)))) + round(1e-6)));
    return Math.min(Math.max(level - finest, 0), scales.length - 1);
  });
}

/**
 * Features of regions, from the level that fits each.
 *
 * @param maps finest first, of one batch and one number of channels
 * @param boxes [n, 4] in pixels of each image
 * @returns [n of all images, C, size, size], at least float32. Gradients go to the maps, not to the boxes
 */
export function roiAlign(maps: readonly ScaledMap[], boxes: readonly Tensor[], options: RoiAlignOptions): Tensor {
  const { own = false } = options;
  const batch = maps[0]!.map.size(0);
  if (boxes.length !== batch) throw new ShapeError(`the maps are of ${batch} images, but there are boxes of ${boxes.length}`);
  return tidy(() => {
    const corners = cat(boxes.map((each) => each.detach())).data() as Float32Array | Float64Array;
    const images = Int32Array.from(boxes.flatMap((each, i) => new Array<number>(each.size(0)).fill(i)));
    const levels = boxLevels(corners, maps.map(({ scale }) => scale)); // biome-ignore format: one thought
    // In float32 throughout, as under torchvision's own autocast rule.
    const wide = maps.map(({ map, scale }) => ({ map: atLeastFloat32(map), scale }));
    return autocast({ enabled: false }, () =>
      !own && hasOp("torchvision::roi_align")
        ? byOperator(wide, corners, images, levels, options)
        : byTable(wide, corners, images, levels, options),
    );
  });
}

type Corners = Float32Array | Float64Array;

/** Gathers from one table of all maps' cells. */
function byTable(
  maps: readonly ScaledMap[],
  corners: Corners,
  images: Int32Array,
  levels: Int32Array,
  options: RoiAlignOptions,
): Tensor {
  const { size, sampling = 2, aligned = false } = options;
  const [first] = maps as [ScaledMap];
  const channels = first.map.size(1);
  const count = images.length;
  const starts: number[] = [];
  let cells = 0;
  for (const { map } of maps) {
    starts.push(cells);
    cells += map.size(0) * map.size(2) * map.size(3);
  }
  const round = roundingOf(first.map.dtype);
  const axes = Array.from(images, (image, i) => {
    const { map, scale } = maps[levels[i]!]!;
    const [, , height, width] = map.shape as [number, number, number, number];
    const [left, top, right, bottom] = corners.subarray(4 * i, 4 * i + 4) as unknown as [number, number, number, number];
    const along = (low: number, high: number, length: number) =>
      axisTaps(axisRegion(low, high, scale, aligned, round), size, length, sampling, round);
    return {
      start: starts[levels[i]!]! + image * height * width,
      width,
      rows: along(top, bottom, height),
      columns: along(left, right, width),
    };
  });
  const longest = (key: "rows" | "columns"): number =>
    axes.reduce((most, each) => each[key].first.reduce((m, end, b, all) => (b ? Math.max(m, end - all[b - 1]!) : m), most), 1);
  const taps = longest("rows") * longest("columns");
  const bins = size * size;
  const indices = new BigInt64Array(count * bins * taps);
  const weights = first.map.dtype === "float64" ? new Float64Array(indices.length) : new Float32Array(indices.length);
  for (const [i, { start, width, rows, columns }] of axes.entries()) {
    for (let y = 0; y < size; y++) {
      for (let x = 0; x < size; x++) {
        let at = (i * bins + y * size + x) * taps;
        for (let r = rows.first[y]!; r < rows.first[y + 1]!; r++) {
          const row = start + rows.cells[r]! * width;
          for (let c = columns.first[x]!; c < columns.first[x + 1]!; c++) {
            indices[at] = BigInt(row + columns.cells[c]!);
            weights[at++] = rows.weights[r]! * columns.weights[c]!;
          }
        }
      }
    }
  }
  const { device } = first.map;
  const table = cat(maps.map(({ map }) => map.permute([0, 2, 3, 1]).reshape([-1, channels])));
  const gathered = table.indexSelect(0, fromTypedArray(indices, [indices.length], { device }));
  const pooled = fromTypedArray(weights, [count * bins, 1, taps], { device }).matmul(
    gathered.view([count * bins, taps, channels]),
  );
  return pooled.view([count, size, size, channels]).permute([0, 3, 1, 2]);
}

/** torchvision's operator on each level, and its results in the order of the boxes. */
function byOperator(
  maps: readonly ScaledMap[],
  corners: Corners,
  images: Int32Array,
  levels: Int32Array,
  options: RoiAlignOptions,
): Tensor {
  const { size, sampling = 2, aligned = false } = options;
  const order: number[] = [];
  const { device, dtype } = maps[0]!.map;
  const parts = maps.map(({ map, scale }, level) => {
    const here = Array.from(levels.keys()).filter((i) => levels[i] === level);
    order.push(...here);
    const regions = Float64Array.from(here.flatMap((i) => [images[i]!, ...corners.subarray(4 * i, 4 * i + 4)]));
    const rois = fromTypedArray(regions, [here.length, 5], { device }).to(dtype);
    return ops.torchvision!.roi_align!(map, rois, scale, size, size, sampling, aligned) as Tensor;
  });
  const back = new BigInt64Array(order.length);
  for (const [at, i] of order.entries()) back[i] = BigInt(at);
  return cat(parts).indexSelect(0, fromTypedArray(back, [back.length], { device }));
}
