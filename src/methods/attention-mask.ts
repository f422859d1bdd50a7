// MST's masked token strategy (Li et al., 2021, section 3.2): mask only where the teacher does not look.
import { empty, type Tensor, tidy } from "../torch/index.js";

export interface AttentionMaskOptions {
  /** The lowest 1 / num of the patches, by attention, are candidates. */
  num: number;
  /** Each candidate is masked with this probability, so the expected share of masked tokens is p / num. */
  p: number;
}

/**
 * m_i = 1 if u_i < p and Attn_i < tau, with u_i uniform in (0, 1) and tau the attention that floor(N / num) patches stay below.
 *
 * @param attention of the class token to the patches, averaged over heads: [B, N]
 * @returns bool [B, N], true where masked; without history
 */
export function attentionGuidedMask(attention: Tensor, { num, p }: AttentionMaskOptions): Tensor {
  return tidy(() => {
    const scores = attention.detach();
    const [batch = 0, count = 0] = scores.shape;
    const candidates = Math.floor(count / num);
    const drawn = randomMask(batch, count, p, scores);
    if (candidates >= count) return drawn;
    const threshold = scores.sort({ dim: 1 }).values.narrow(1, candidates, 1);
    return scores.lt(threshold).logicalAnd(drawn);
  });
}

/** m_i = 1 with probability p for every token, whatever is attended to: the baseline of the paper's ablation. bool [B, N] */
export function randomMask(batch: number, count: number, p: number, like: Tensor): Tensor {
  return tidy(() => empty([batch, count], { device: like.device }).uniform_(0, 1).lt(p));
}
