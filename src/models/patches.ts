// Images as rows of pixels by patch, and what methods that predict pixels make of them (He et al., 2022, section 3).
import { ShapeError } from "../nn/index.js";
import { arange, type Tensor, tidy } from "../torch/index.js";

/** [B, C, H, W] -> [B, N, P P C]: patches row by row; in a patch pixels row by row, their channels together. */
export function patchify(images: Tensor, patch: number): Tensor {
  const [batch = 0, channels = 0, height = 0, width = 0] = images.shape;
  return tidy(() =>
    images
      .reshape([batch, channels, height / patch, patch, width / patch, patch])
      .permute([0, 2, 4, 3, 5, 1])
      .reshape([batch, (height / patch) * (width / patch), patch * patch * channels]),
  );
}

/** The inverse of patchify: [B, N, P P C] -> [B, C, rows P, columns P]. */
export function unpatchify(patches: Tensor, [rows, columns]: readonly [number, number], patch: number): Tensor {
  const [batch = 0, , pixels = 0] = patches.shape;
  const channels = pixels / patch ** 2;
  return tidy(() =>
    patches
      .reshape([batch, rows, columns, patch, patch, channels])
      .permute([0, 5, 1, 3, 2, 4])
      .reshape([batch, channels, rows * patch, columns * patch]),
  );
}

/** What is said of each cell of a grid, [B, rows columns], said of each of the factor x factor parts of it: [B, rows factor, columns factor]. */
export function spreadCells(cells: Tensor, grid: readonly [number, number], factor: number): Tensor {
  return tidy(() => cells.unflatten(1, grid).repeatInterleave(factor, 1).repeatInterleave(factor, 2));
}

/**
 * Mean and deviation of each patch's pixels, [B, N, 1] each, and the patches less their mean; the variance is the unbiased one, plus 1e-6, as in
 * MAE's code.
 */
export function patchMoments(patches: Tensor): { mean: Tensor; deviation: Tensor; centred: Tensor } {
  const mean = patches.mean(-1, { keepdim: true });
  const centred = patches.sub(mean);
  const [, , pixels = 0] = patches.shape;
  // libtorch's own variance takes one number after another.
  const deviation = tidy(() =>
    centred
      .mul(centred)
      .sum(-1, { keepdim: true })
      .div(pixels - 1)
      .add(1e-6)
      .sqrt(),
  );
  return { mean, deviation, centred };
}

/**
 * Rows of [B, N, C] by their numbers [B, n], int64: [B, n, C]. Of [1, N, C] the same rows serve all.
 *
 * @throws ShapeError where a number is not one of 0 to N - 1
 */
export function gatherTokens(tokens: Tensor, index: Tensor): Tensor {
  const [batch = 0, count = 0] = index.shape;
  const [images = 0, patches = 0, width = 0] = tokens.shape;
  return tidy(() => {
    if (tokens.device !== "cpu")
      return tokens.expand([batch, -1, -1]).gather(1, index.unsqueeze(-1).expand([batch, count, width]));
    // On the CPU whole rows, forward and back, take a tenth of what a gather of single numbers does. It does not know where an image ends.
    const [least, most] = index.numel > 0 ? [index.amin().item(), index.amax().item()] : [0, 0];
    if (least < 0 || most >= patches) {
      throw new ShapeError(`numbers of patches must be from 0 to ${patches - 1}, got ${least} to ${most}`);
    }
    const rows = images === 1 ? index : index.add(arange(0, batch).mul(patches).unsqueeze(1));
    return tokens.flatten(0, 1).indexSelect(0, rows.flatten()).view([batch, count, width]);
  });
}
