// Convolutions over images [N, C, H, W].
import { conv2d, convTranspose2d, empty, type Tensor } from "../torch/index.js";
import { kaimingUniform_, uniform_ } from "./init.js";
import { Module } from "./module.js";
import { parameter } from "./parameter.js";

type Pair = number | readonly [number, number];
const pair = (value: Pair): readonly [number, number] => (typeof value === "number" ? [value, value] : value);

export interface ConvConfig {
  /** Default 1. */
  stride?: Pair;
  /** Default 0. */
  padding?: Pair;
  /** Default 1. */
  dilation?: Pair;
  /** Default 1. */
  groups?: number;
  /** Default true. */
  bias?: boolean;
}

/** weight [out, in / groups, kH, kW]. */
export class Conv2d extends Module {
  weight: Tensor;
  bias: Tensor | null;
  readonly config: ConvConfig;

  constructor(inChannels: number, outChannels: number, kernelSize: Pair, config: ConvConfig = {}) {
    super();
    this.config = config;
    const [height, width] = pair(kernelSize);
    const fanIn = (inChannels / (config.groups ?? 1)) * height * width;
    this.weight = parameter(kaimingUniform_(empty([outChannels, inChannels / (config.groups ?? 1), height, width]), { fanIn }));
    this.bias =
      config.bias === false ? null : parameter(uniform_(empty([outChannels]), -1 / Math.sqrt(fanIn), 1 / Math.sqrt(fanIn)));
  }

  forward(x: Tensor): Tensor {
    return conv2d(x, this.weight, { ...this.config, bias: this.bias });
  }
}

/** weight [in, out / groups, kH, kW]. */
export class ConvTranspose2d extends Module {
  weight: Tensor;
  bias: Tensor | null;
  readonly config: ConvConfig & { outputPadding?: Pair };

  constructor(inChannels: number, outChannels: number, kernelSize: Pair, config: ConvConfig & { outputPadding?: Pair } = {}) {
    super();
    this.config = config;
    const [height, width] = pair(kernelSize);
    // torch computes the fan of a transposed convolution from dimension 1, as for the plain one.
    const fanIn = (outChannels / (config.groups ?? 1)) * height * width;
    this.weight = parameter(kaimingUniform_(empty([inChannels, outChannels / (config.groups ?? 1), height, width]), { fanIn }));
    this.bias =
      config.bias === false ? null : parameter(uniform_(empty([outChannels]), -1 / Math.sqrt(fanIn), 1 / Math.sqrt(fanIn)));
  }

  forward(x: Tensor): Tensor {
    return convTranspose2d(x, this.weight, { ...this.config, bias: this.bias });
  }
}
