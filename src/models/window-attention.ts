// Attention inside windows with a learned bias by relative position (Liu et al., 2021, section 3.2), timm's names.
import { init, Linear, Module, parameter, ShapeError } from "../nn/index.js";
import { empty, keep, type Tensor, tensor, tidy } from "../torch/index.js";

export type Window = readonly [rows: number, columns: number];

export class WindowAttention extends Module {
  /** One row for each offset between two tokens of the largest window, [(2 h - 1) (2 w - 1), heads] */
  relativePositionBiasTable: Tensor;
  qkv: Linear;
  proj: Linear;
  readonly #scale: number;
  /** For each window that was met, the table's row for each pair of its tokens. */
  readonly #indices = new Map<string, Tensor>();

  /** @param window the largest window, which the table is made for */
  constructor(
    readonly features: number,
    readonly heads: number,
    readonly window: Window,
    { qkvBias = true }: { qkvBias?: boolean } = {},
  ) {
    super();
    if (features % heads !== 0) throw new ShapeError(`the width ${features} must be a multiple of the number of heads, ${heads}`);
    const [rows, columns] = window;
    this.relativePositionBiasTable = parameter(init.truncNormal_(empty([(2 * rows - 1) * (2 * columns - 1), heads])));
    this.qkv = new Linear(features, 3 * features, { bias: qkvBias });
    this.proj = new Linear(features, features);
    this.#scale = (features / heads) ** -0.5;
  }

  /** The bias of each pair of tokens in a window no larger than the table's, [heads, n, n]. */
  bias(window: Window): Tensor {
    return tidy(() => {
      const count = window[0] * window[1];
      const rows = this.relativePositionBiasTable.indexSelect(0, this.#index(window));
      return rows.view([count, count, this.heads]).permute([2, 0, 1]);
    });
  }

  #index([rows, columns]: Window): Tensor {
    const key = `${rows} ${columns}`;
    const known = this.#indices.get(key);
    if (known) return known;
    const [tableRows, tableColumns] = this.window;
    const index: number[] = [];
    for (let a = 0; a < rows * columns; a++) {
      for (let b = 0; b < rows * columns; b++) {
        const down = Math.floor(a / columns) - Math.floor(b / columns) + tableRows - 1;
        index.push(down * (2 * tableColumns - 1) + (a % columns) - (b % columns) + tableColumns - 1);
      }
    }
    const made = keep(tensor(index, { dtype: "int64" }).to(this.relativePositionBiasTable.device));
    this.#indices.set(key, made);
    return made;
  }

  /**
   * @param x windows image by image, [B W, n, C]
   * @param bias added to the scores: [heads, n, n], or [W, heads, n, n] where windows differ
   * @returns the output [B W, n, C], and the weights [B W, heads, n, n]
   */
  forward(x: Tensor, bias: Tensor): { output: Tensor; weights: Tensor } {
    const [count = 0, length = 0, width = 0] = x.shape;
    const qkv = this.qkv.call(x).view([count, length, 3, this.heads, -1]).permute([2, 0, 3, 1, 4]);
    const [q, k, v] = qkv.unbind(0) as [Tensor, Tensor, Tensor];
    const scores = q.mul(this.#scale).matmul(k.transpose(-2, -1));
    const biased =
      bias.ndim === 3
        ? scores.add(bias)
        : scores
            .view([-1, ...bias.shape])
            .add(bias)
            .view(scores.shape);
    const weights = biased.softmax(-1);
    const output = weights.matmul(v).transpose(1, 2).reshape([count, length, width]);
    return { output: this.proj.call(output), weights };
  }
}
