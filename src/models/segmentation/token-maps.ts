// An encoder's patch tokens as one map, for heads that need no pyramid.
import { Module, ShapeError } from "../../nn/index.js";
import { cat, type Tensor } from "../../torch/index.js";
import type { Encoder } from "../encoder.js";

/** The patch tokens of the last `lastBlocks` levels, each through the final norm, side by side along the channels. */
export class TokenMaps extends Module {
  encoder: Encoder;
  readonly widths: readonly number[];
  readonly strides: readonly number[];
  readonly #last: number;

  constructor(encoder: Encoder, lastBlocks = 1) {
    super();
    if (!(Number.isInteger(lastBlocks) && lastBlocks >= 1 && lastBlocks <= encoder.depth)) {
      throw new ShapeError(`the last ${lastBlocks} blocks were asked for; expected 1 to ${encoder.depth}`);
    }
    const own = encoder.levelShapes.slice(-lastBlocks);
    if (own.some(({ stride }) => stride !== encoder.stride) || (lastBlocks > 1 && !encoder.norm)) {
      throw new ShapeError(`the last ${lastBlocks} levels of this encoder have no common grid; expected 1`);
    }
    this.encoder = encoder;
    this.widths = [encoder.width * lastBlocks];
    this.strides = [encoder.stride];
    this.#last = lastBlocks;
  }

  /** Images [B, C, H, W] -> one map [B, widths[0], rows, columns] */
  forward(images: Tensor): Tensor[] {
    const before = Array.from({ length: this.#last - 1 }, (_, i) => i - this.#last);
    const { patches, levels, grid } = this.encoder.call(images, { levels: before });
    const normed = levels.map((tokens) => this.encoder.norm!.call(tokens.slice(1, this.encoder.prefix)) as Tensor);
    const all = [...normed, patches!];
    return [(all.length === 1 ? all[0]! : cat(all, 2)).transpose(1, 2).unflatten(2, grid)];
  }
}
