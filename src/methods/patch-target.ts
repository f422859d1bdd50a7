// Pixels as a target: the patches of an image, each normalised by its own mean and deviation or as they are.
import { gatherTokens, patchify, patchMoments, unpatchify } from "../models/index.js";
import { noGrad, type Tensor } from "../torch/index.js";

/** What is to be predicted of each patch, [B, N, P P channels], or of those that `chosen` [B, n] numbers, [B, n, P P channels]; without history. */
export function patchTarget(images: Tensor, patch: number, normalize: boolean, chosen?: Tensor): Tensor {
  return noGrad(() => {
    const all = patchify(images, patch);
    const patches = chosen ? gatherTokens(all, chosen) : all;
    if (!normalize) return patches;
    const { centred, deviation } = patchMoments(patches);
    return centred.div(deviation);
  });
}

/**
 * Images of predicted patches, for pictures: where patches were normalised, the true ones' mean and deviation are put back, because the
 * method does not predict them.
 *
 * @param predicted [B, N, P P channels]
 */
export function imagesOfPatches(predicted: Tensor, images: Tensor, patch: number, normalized: boolean): Tensor {
  const [, , height = 0, width = 0] = images.shape;
  const { mean, deviation } = patchMoments(patchify(images, patch));
  const pixels = normalized ? predicted.float().mul(deviation).add(mean) : predicted.float();
  return unpatchify(pixels, [height / patch, width / patch], patch);
}
