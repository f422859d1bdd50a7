// DINO's loss (Caron et al., 2021, section 3.1), in a form that computes each log-softmax once.
import { pairedCrossEntropy, type Tensor } from "../torch/index.js";

/** The teacher's distributions P_t = softmax((g_t - c) / tau_t), without history. logits [..., K], center [1, K]. */
export function teacherDistribution(logits: Tensor, center: Tensor, temperature: number): Tensor {
  return logits.detach().float().sub(center).div(temperature).softmax(-1);
}

/**
 * Cross-entropy between teacher and student over all pairs of different views, averaged over pairs and samples.
 *
 * @param student logits of all views, [V, B, K]; the first two are the teacher's views
 * @param teacher P_t of both global views, [2, B, K]
 * @param temperature tau_s
 */
export function dinoLoss(student: Tensor, teacher: Tensor, temperature: number): Tensor {
  const [views = 0, batch = 0] = student.shape;
  // A global view is paired with the other one's distribution, a local view with both.
  const pairs = Array.from({ length: views }, (_, view) => [view === 0 ? 0 : 1, view === 1 ? 0 : 1]);
  return pairedCrossEntropy(student, teacher, pairs, temperature)
    .sum()
    .div((2 * views - 2) * batch);
}

/** Mean entropy of distributions [..., K] in nats: ln K when uniform, 0 when all mass is on one prototype. */
export function meanEntropy(distribution: Tensor): Tensor {
  return distribution
    .mul(distribution.clamp({ min: 1e-12 }).log())
    .sum(-1)
    .mean()
    .neg();
}
