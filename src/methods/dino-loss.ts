// DINO's loss (Caron et al., 2021, section 3.1), in a form that computes each log-softmax once.
import type { Tensor } from "../torch/index.js";

/** The teacher's distributions P_t = softmax((g_t - c) / tau_t), without history. logits [..., K], center [1, K]. */
export function teacherDistribution(logits: Tensor, center: Tensor, temperature: number): Tensor {
  return logits.detach().float().sub(center).div(temperature).softmax(-1);
}

/**
 * Cross-entropy between teacher and student over all pairs of different views, averaged over pairs and samples.
 *
 * The mean over pairs of -<P_t, log softmax(s_v)> is linear in the teacher's distributions: with Q_v the sum of those paired with view v
 * and n_v their number, it is (1 / pairs) sum_v mean_b [ n_v LSE(s_v) - <Q_v, s_v> ]. The pairwise form computes 18 log-softmaxes for
 * 2 + 8 crops, this one 10 log-sum-exps and no table of log-probabilities.
 *
 * @param student logits of all views, [V, B, K]; the first two are the teacher's views
 * @param teacher P_t of both global views, [2, B, K]
 * @param temperature tau_s
 */
export function dinoLoss(student: Tensor, teacher: Tensor, temperature: number): Tensor {
  const [views = 0, batch = 0] = student.shape;
  const pairs = 2 * views - 2;
  const s = student.float().div(temperature);
  const lse = s.logsumexp(-1);
  // A global view is paired with the other one's distribution, a local view with both.
  const global = teacher
    .flip(0)
    .mul(s.narrow(0, 0, 2))
    .sum();
  let total = lse.narrow(0, 0, 2).sum().sub(global);
  if (views > 2) {
    const local = s
      .narrow(0, 2, views - 2)
      .mul(teacher.sum(0))
      .sum();
    total = total
      .add(
        lse
          .narrow(0, 2, views - 2)
          .sum()
          .mul(2),
      )
      .sub(local);
  }
  return total.div(pairs * batch);
}

/** Mean entropy of distributions [..., K] in nats: ln K when uniform, 0 when all mass is on one prototype. */
export function meanEntropy(distribution: Tensor): Tensor {
  return distribution
    .mul(distribution.clamp({ min: 1e-12 }).log())
    .sum(-1)
    .mean()
    .neg();
}
