// Linear classifiers side by side: one for each learning rate and weight decay of a grid, on the same features, in the same batches. All rows of
// all classifiers are one matrix, so a step is one product forward and one backward, however many there are.
import { BatchNorm1d, init, Module, parameter } from "../nn/index.js";
import type { ParameterGroup } from "../optim/index.js";
import {
  cat,
  crossEntropy,
  empty,
  type Generator,
  grad,
  keep,
  linear,
  noGrad,
  type Tensor,
  tidy,
  zeros,
} from "../torch/index.js";
import type { ProbeGrid } from "./probe-grid.js";

export interface LinearGridConfig {
  /** Numbers of a feature. */
  width: number;
  classes: number;
  /** How many classifiers. */
  members: number;
  /** Normalise features by the batch's statistics, without learned scale and shift, as MAE does; all members share it. Null for none. */
  batchNorm: { eps: number } | null;
  generator: Generator;
}

/** Logits that are held at once while learning: 64 MB. */
const LOGITS = 2 ** 24;

export class LinearGrid extends Module implements ProbeGrid {
  /** [members * classes, width] */
  weight: Tensor;
  /** [members * classes] */
  bias: Tensor;
  bn: BatchNorm1d | null;
  readonly classes: number;
  readonly members: number;
  readonly groups: readonly ParameterGroup[];
  readonly #gradients: { weight: Tensor; bias: Tensor };

  constructor({ width, classes, members, batchNorm, generator }: LinearGridConfig) {
    super();
    this.classes = classes;
    this.members = members;
    // Every member starts from the same weights (normal, std 0.01: DINO, MoCo v3, MAE), so that only the rates differ.
    this.weight = parameter(
      tidy(() => {
        const first = init.normal_(empty([classes, width]), { std: 0.01, generator });
        return cat(Array.from({ length: members }, () => first));
      }),
    );
    this.bias = parameter(zeros([members * classes]));
    this.bn = batchNorm ? new BatchNorm1d(width, { affine: false, eps: batchNorm.eps }) : null;
    this.#gradients = { weight: keep(zeros(this.weight.shape)), bias: keep(zeros(this.bias.shape)) };
    // The optimiser sees each member's rows as parameters of their own: LARS takes norms of them, not of the whole.
    this.groups = Array.from({ length: members }, (_, member) => this.#groupOf(member));
  }

  #groupOf(member: number): ParameterGroup {
    const parameters = (["weight", "bias"] as const).map((name) => {
      const own = (all: Tensor) => all.narrow(0, member * this.classes, this.classes);
      return tidy(() => {
        const rows = keep(own(this[name].detach()));
        rows.grad = own(this.#gradients[name]);
        return rows;
      });
    });
    return { parameters, names: [`${member}.weight`, `${member}.bias`] };
  }

  /** Features [B, width] to logits [B, members, classes]. */
  forward(features: Tensor): Tensor {
    return this.#logits(this.#normalised(features));
  }

  #normalised(features: Tensor): Tensor {
    return noGrad(() => (this.bn ? this.bn.call(features.float()) : features.float()));
  }

  #logits(x: Tensor): Tensor {
    return linear(x, this.weight, this.bias).view([x.size(0), this.members, this.classes]);
  }

  learn(features: Tensor, labels: Tensor): Tensor {
    return tidy(() => {
      const x = this.#normalised(features);
      const batch = x.size(0);
      const rows = Math.max(1, Math.floor(LOGITS / (this.members * this.classes)));
      const losses = zeros([this.members]);
      const { weight, bias } = this.#gradients;
      weight.zero_();
      bias.zero_();
      for (let from = 0; from < batch; from += rows) {
        const count = Math.min(rows, batch - from);
        tidy(() => {
          const logits = this.#logits(x.narrow(0, from, count)).flatten(0, 1);
          const targets = labels.narrow(0, from, count).repeatInterleave(this.members);
          const each = crossEntropy(logits, targets, { reduction: "none" }).view([count, this.members]).sum(0).div(batch);
          // No member's loss depends on another's weights, so the sum's gradient is that of each.
          const [byWeight, byBias] = grad([each.sum()], [this.weight, this.bias]);
          weight.add_(byWeight!);
          bias.add_(byBias!);
          losses.add_(each.detach());
        });
      }
      return losses;
    });
  }

  override dispose(): void {
    super.dispose();
    for (const each of [...this.groups.flatMap(({ parameters }) => parameters), ...Object.values(this.#gradients)])
      each.dispose();
  }
}
