// The terms of a d-VAE's loss (Ramesh et al., 2021, section 2.1 and appendix A): samples of codes that gradients pass through, how
// likely the image is, and how far the codes are from being used alike.
import { atLeastFloat32, l1Loss, mseLoss, noGrad, rand, type Tensor, tidy, zerosLike } from "../torch/index.js";

/** Gumbel(0, 1) noise of this shape, float32, without history. */
export function gumbelNoise(shape: readonly number[]): Tensor {
  return tidy(() => noGrad(() => rand(shape).log().neg().log().neg()));
}

/**
 * A sample of the codes of each cell, relaxed (Jang et al., 2017): softmax((logits + noise) / tau).
 *
 * @param logits [B, V, ...]
 * @param straightThrough one-hot on the way forward, as the relaxed sample on the way back
 */
export function sampleCodes(logits: Tensor, noise: Tensor, tau: number, straightThrough: boolean): Tensor {
  return tidy(() => {
    const soft = logits.add(noise).div(tau).softmax(1);
    if (!straightThrough) return soft;
    const correction = noGrad(() => {
      const index = soft.argmax(1, { keepdim: true });
      return zerosLike(soft).scatter_(1, index, 1).sub(soft);
    });
    return soft.add(correction);
  });
}

/**
 * -ln of the logit-Laplace density of each value, mean over all (appendix A.3): the sigmoid of a variable with a Laplace distribution.
 *
 * @param output the decoder's, [B, 2 channels, H, W]: mu, then ln b
 * @param target mapped images [B, channels, H, W], values inside (0, 1)
 * @param minLogScale ln b is not taken to be below this: where an image is constant, the density would grow without bound
 */
export function logitLaplace(output: Tensor, target: Tensor, minLogScale: number): Tensor {
  return tidy(() => {
    const [mu, logScale] = atLeastFloat32(output).chunk(2, 1) as [Tensor, Tensor];
    const lnB = logScale.clamp({ min: minLogScale });
    // Of the target alone: logit(x), and ln 2 x (1 - x).
    const [logit, constant] = noGrad(() => {
      const rest = target.rsub(1);
      return [target.div(rest).log(), target.mul(rest).mul(2).log().mean()] as const;
    });
    return logit.sub(mu).abs().mul(lnB.neg().exp()).add(lnB).mean().add(constant);
  });
}

/** Mean absolute or squared difference between the image of the means and the mapped image. */
export function meanImageLoss(output: Tensor, target: Tensor, distance: "l1" | "l2"): Tensor {
  return tidy(() => {
    const image = atLeastFloat32(output).narrow(1, 0, target.size(1)).sigmoid();
    return distance === "l1" ? l1Loss(image, target) : mseLoss(image, target);
  });
}

/** KL of the codes' distribution to the uniform one in nats, mean over cells; 0 when a cell says nothing, ln V when it is sure. [B, V, ...] */
export function klToUniform(logits: Tensor): Tensor {
  return tidy(() => {
    const logQ = logits.logSoftmax(1);
    return logQ
      .exp()
      .mul(logQ)
      .sum(1)
      .mean()
      .add(Math.log(logits.size(1)));
  });
}

/** KL of the codes' average use to the uniform one in nats: 0 when all are used alike, ln V when only one is. [B, V, ...] */
export function usageKl(logits: Tensor): Tensor {
  return tidy(() => {
    const use = logits.softmax(1).transpose(0, 1).flatten(1).mean(1);
    return use
      .mul(use.clamp({ min: 1e-12 }).log())
      .sum()
      .add(Math.log(logits.size(1)));
  });
}
