// What training a probe needs to know of what is trained: classifiers side by side on the same features.
import type { Module } from "../nn/index.js";
import type { ParameterGroup } from "../optim/index.js";
import type { Tensor } from "../torch/index.js";

export interface ProbeGrid extends Module {
  /** How many classifiers. */
  readonly members: number;
  readonly classes: number;
  /** The parameters of each member. */
  readonly groups: readonly ParameterGroup[];
  /** What is kept of an image [B, ...] to logits [B, members, classes]. */
  forward(features: Tensor): Tensor;
  /**
   * Sets the gradients of a batch's mean cross-entropy in the groups' parameters, for each member its own.
   *
   * @param labels int64 [B]
   * @returns the losses [members], without history
   */
  learn(features: Tensor, labels: Tensor): Tensor;
}
