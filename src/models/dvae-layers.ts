// What the d-VAE's encoder and decoder are made of, under the names of DALL-E's released weights: convolutions called `w` and `b`, stacks
// whose layers have names (`group_1`, `block_2`, `conv_3`), and the residual block.
import { init, Module, parameter } from "../nn/index.js";
import { autocast, conv2d, empty, type Tensor, zeros } from "../torch/index.js";

/** A convolution that keeps the size: odd kernel, stride 1. w [out, in, k, k], b [out]; drawn as DALL-E's code does. */
export class DvaeConv extends Module {
  w: Tensor;
  b: Tensor;

  constructor(inChannels: number, outChannels: number, kernel: number) {
    super();
    const w = empty([outChannels, inChannels, kernel, kernel]);
    this.w = parameter(init.normal_(w, { std: 1 / Math.sqrt(inChannels * kernel ** 2) }));
    this.b = parameter(zeros([outChannels]));
  }

  forward(x: Tensor): Tensor {
    return conv2d(x, this.w, { bias: this.b, padding: (this.w.size(-1) - 1) / 2 });
  }
}

/** Layers one after another, by name. */
export class DvaeStack extends Module {
  constructor(readonly layers: Readonly<Record<string, Module>>) {
    super();
  }

  override *namedChildren(): IterableIterator<[string, Module]> {
    yield* Object.entries(this.layers);
  }

  forward(x: Tensor): Tensor {
    let out = x;
    for (const layer of Object.values(this.layers)) out = layer.call(out) as Tensor;
    return out;
  }
}

/** A function of one tensor in a stack. */
export class DvaeFunction extends Module {
  readonly #fn: (x: Tensor) => Tensor;

  constructor(fn: (x: Tensor) => Tensor) {
    super();
    this.#fn = fn;
  }

  forward(x: Tensor): Tensor {
    return this.#fn(x);
  }
}

const relu = () => new DvaeFunction((x) => x.relu());

/** x + gain * (four times ReLU and convolution, at a quarter of the width between them); a 1x1 convolution of x where the width changes. */
export class DvaeBlock extends Module {
  idPath: DvaeConv | null;
  resPath: DvaeStack;

  /**
   * @param kernels of the four convolutions: the encoder's 3, 3, 3, 1, the decoder's 1, 3, 3, 3
   * @param gain the post-gain: 1 / (blocks in all)^2
   */
  constructor(
    inChannels: number,
    outChannels: number,
    kernels: readonly [number, number, number, number],
    readonly gain: number,
  ) {
    super();
    const hidden = outChannels / 4;
    const widths = [inChannels, hidden, hidden, hidden, outChannels];
    this.idPath = inChannels === outChannels ? null : new DvaeConv(inChannels, outChannels, 1);
    this.resPath = new DvaeStack(
      Object.fromEntries(
        kernels.flatMap((kernel, i): [string, Module][] => [
          [`relu_${i + 1}`, relu()],
          [`conv_${i + 1}`, new DvaeConv(widths[i]!, widths[i + 1]!, kernel)],
        ]),
      ),
    );
  }

  forward(x: Tensor): Tensor {
    const identity = this.idPath?.call(x) ?? x;
    return identity.add(this.resPath.call(x), { alpha: this.gain });
  }
}

/** Blocks under the names `block_1`, ..., and what follows them (`pool`, `upsample`) if anything does. */
export function dvaeGroup(blocks: readonly DvaeBlock[], last?: { name: string; fn: (x: Tensor) => Tensor }): DvaeStack {
  const named: [string, Module][] = blocks.map((block, i) => [`block_${i + 1}`, block]);
  if (last) named.push([last.name, new DvaeFunction(last.fn)]);
  return new DvaeStack(Object.fromEntries(named));
}

/** ReLU and a 1x1 convolution. */
export function dvaeOutput(inChannels: number, outChannels: number): DvaeStack {
  return new DvaeStack({ relu: relu(), conv: new DvaeConv(inChannels, outChannels, 1) });
}

/** Runs `fn` on float32 without autocast: DALL-E keeps the convolutions next to the codes in full precision. */
export function inFullPrecision(x: Tensor, fn: (x: Tensor) => Tensor): Tensor {
  return autocast({ device: x.device, enabled: false }, () => fn(x.dtype === "float64" ? x : x.float()));
}
