// Attention of a ViT inside windows, with a few blocks that see everything: what large images ask for (Li et al. 2022, "Exploring Plain Vision
// Transformer Backbones for Object Detection", section 3).
import { type Attention, ShapeError } from "../nn/index.js";
import { cat, type Tensor, tidy } from "../torch/index.js";
import type { Grid } from "./position.js";
import { type Cut, fromWindows, toWindows } from "./windows.js";

/** The blocks that see everything, from 0: the last of each quarter where nothing else is said. @throws ShapeError for blocks that are not there */
export function globalBlocksOf(depth: number, given?: readonly number[]): number[] {
  const quarters = [1, 2, 3, 4].map((part) => Math.max(0, Math.round((depth * part) / 4) - 1));
  const blocks = (given ?? quarters).map((block) => (block < 0 ? block + depth : block));
  const wrong = blocks.find((block) => !Number.isInteger(block) || block < 0 || block >= depth);
  if (wrong !== undefined) throw new ShapeError(`globalBlocks has block ${wrong}, but the encoder has blocks 0 to ${depth - 1}`);
  if (!blocks.includes(depth - 1)) {
    throw new ShapeError(`globalBlocks lacks the last block, ${depth - 1}, which has to see the whole image`);
  }
  return [...new Set(blocks)].sort((a, b) => a - b);
}

/**
 * Attention inside windows. A class token is in every window, and gets the mean of what it would get in each. What whole windows lack at the bottom
 * and the right is filled with zeros, which take part as the paper's do.
 *
 * @param x normalised [B, prefix + rows * columns, C]
 * @param mask added to the scores, over the tokens of a window with the class token first
 */
export function attendInWindows(
  attention: Attention,
  x: Tensor,
  grid: Grid,
  cut: Cut,
  { prefix, mask }: { prefix: number; mask?: Tensor | undefined },
): Tensor {
  return tidy(() => {
    const batch = x.size(0);
    const windows = toWindows(x.slice(1, prefix).unflatten(1, grid), cut);
    const count = windows.size(0) / batch;
    const sequence = prefix === 0 ? windows : cat([x.narrow(1, 0, prefix).repeatInterleave(count, 0), windows], 1);
    const attended = attention.call(sequence, { mask });
    const patches = fromWindows(attended.slice(1, prefix), grid, cut).flatten(1, 2);
    if (prefix === 0) return patches;
    return cat([attended.narrow(1, 0, prefix).unflatten(0, [batch, count]).mean(1), patches], 1);
  });
}
