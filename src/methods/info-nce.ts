// MoCo v3's contrastive loss (Chen et al., 2021, algorithm 1): each query finds its own image's key among the keys of the batch.
import { arange, atLeastFloat32, crossEntropy, normalize, type Tensor } from "../torch/index.js";

/**
 * ctr(q, k) = 2 tau mean_i -log softmax_j(q_i . k_j / tau)_i, for L2-normalised queries and keys. The factor 2 tau makes the loss's
 * gradient comparable between temperatures.
 *
 * @param queries [B, D] @param keys [B, D], without history
 * @returns the scalar loss, and the logits [B, B] it is made of
 */
export function infoNce(queries: Tensor, keys: Tensor, temperature: number): { loss: Tensor; logits: Tensor } {
  // In float32: 1 / tau magnifies what half precision rounds.
  const [q, k] = [queries, keys].map((each) => normalize(atLeastFloat32(each))) as [Tensor, Tensor];
  const logits = q.matmul(k.transpose(0, 1)).div(temperature);
  const own = arange(0, queries.size(0), 1, { dtype: "int64", device: queries.device });
  return { loss: crossEntropy(logits, own).mul(2 * temperature), logits };
}
