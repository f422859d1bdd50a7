// A classifier on an encoder that is trained with it, as MAE, BEiT, CAE and DeiT build theirs.

import { type Encoder, SwinTransformer, VisionTransformer, type VitConfig } from "../models/index.js";
import { init, LayerNorm, Linear, Module } from "../nn/index.js";
import type { ParameterGroup } from "../optim/index.js";
import { atLeastFloat32, type Tensor, writeSafetensors } from "../torch/index.js";
import { encoderDecayGroups, layersOf } from "./encoder-layers.js";
import { EvaluateError } from "./errors.js";
import type { FinetuneSettings } from "./finetune-settings.js";

type Backbone = VisionTransformer | SwinTransformer;

/** An encoder and a linear layer on its class token or on the mean of its patches. */
export class Classifier extends Module {
  encoder: Backbone;
  fcNorm: LayerNorm | null;
  head: Linear;

  /**
   * Takes the encoder over. The classifier's bias starts at 0, its weights as a truncated normal.
   *
   * @throws EvaluateError where a class token is asked for that is not there
   */
  constructor(
    encoder: Encoder,
    classes: number,
    { pool, poolNorm, headStd }: Pick<FinetuneSettings, "pool" | "poolNorm" | "headStd">,
  ) {
    super();
    this.encoder = backbone(encoder);
    const swin = this.encoder instanceof SwinTransformer;
    if (pool === "class" && encoder.prefix === 0) {
      throw new EvaluateError('The settings classify the class token, but the encoder has none; expected pool "mean".');
    }
    this.fcNorm = pool === "mean" && !swin ? new LayerNorm(encoder.width) : null;
    if (this.fcNorm && poolNorm === "pre-trained") this.fcNorm.loadStateDict(this.encoder.norm.stateDict());
    // The norm of every token is not used then.
    if (this.fcNorm) this.encoder.norm.requiresGrad_(false);
    this.head = new Linear(encoder.width, classes);
    init.truncNormal_(this.head.weight, { std: headStd });
    init.constant_(this.head.bias!, 0);
  }

  /** Images [B, C, H, W] to scores [B, classes] of at least float32. */
  forward(images: Tensor): Tensor {
    return atLeastFloat32(this.head.call(this.#feature(images)));
  }

  #feature(images: Tensor): Tensor {
    const { encoder, fcNorm } = this;
    if (!fcNorm) return encoder.call(images, { classOnly: true }).feature;
    const [tokens] = encoder.call(images, { levels: [-1] }).levels;
    return fcNorm.call(tokens!.slice(1, encoder.prefix).mean(1));
  }
}

function backbone(encoder: Encoder): Backbone {
  if (encoder instanceof VisionTransformer || encoder instanceof SwinTransformer) return encoder;
  throw new EvaluateError("Only a Vision Transformer or a Swin of this library can be fine-tuned.");
}

/** How the encoder to train differs from the one that is given. */
export interface EncoderChanges extends Pick<FinetuneSettings, "dropPath" | "relPosBias"> {
  /** Pixels per side, or [height, width], of the images. */
  imageSize: number | readonly [number, number];
  /** Attention inside windows, see VitConfig. Default: as the given encoder's. */
  windows?: Pick<VitConfig, "windowSize" | "globalBlocks">;
  /** First weights instead of the given encoder's: the baseline that pre-training has to beat. */
  scratch: boolean;
}

/**
 * An encoder to train: the given one's architecture at the images' size, with drop path and biases as asked for, and its weights or fresh ones.
 * The given one stays as it is.
 *
 * @throws EvaluateError for an image size or biases that the architecture cannot have
 */
export function trainableEncoder(
  given: Encoder,
  { imageSize, dropPath, relPosBias, windows, scratch }: EncoderChanges,
): Backbone {
  const from = backbone(given);
  const [height, width] = typeof imageSize === "number" ? [imageSize, imageSize] : imageSize;
  const patch = from.config.patchSize;
  if (height % patch !== 0 || width % patch !== 0) {
    throw new EvaluateError(`The images are ${height}x${width}; expected multiples of the encoder's patch size, ${patch}.`);
  }
  if (from instanceof SwinTransformer) {
    if (relPosBias === "block" || relPosBias === "shared") {
      throw new EvaluateError(`relPosBias is "${relPosBias}", but a Swin has biases of its own; expected as-is or none.`);
    }
    const made = new SwinTransformer({ ...from.config, imageSize, dropPath });
    if (!scratch) made.loadWeights(from.stateDict());
    return made;
  }
  const bias = relPosBias === "as-is" ? from.config.relPosBias : relPosBias;
  const made = new VisionTransformer({ ...from.config, ...windows, imageSize, dropPath, relPosBias: bias });
  if (!scratch) {
    const tables = (name: string) => name.endsWith("relative_position_bias_table");
    const weights = new Map([...from.stateDict()].filter(([name]) => bias === from.config.relPosBias || !tables(name)));
    made.loadWeights(weights, from.positionGrid);
  }
  return made;
}

/** Stops training what the settings leave out. @throws EvaluateError for more blocks than there are */
export function freezeParts(model: Classifier, { freeze, lastBlocks }: Pick<FinetuneSettings, "freeze" | "lastBlocks">): void {
  const { encoder } = model;
  const { blocks, layerOf } = layersOf(encoder);
  if (freeze === "patch-embed") encoder.patchEmbed.requiresGrad_(false);
  if (lastBlocks === null) return;
  if (lastBlocks > blocks) {
    throw new EvaluateError(
      `lastBlocks is ${lastBlocks}, but the encoder has ${blocks} blocks; expected at most as many, or null for all.`,
    );
  }
  for (const [name, parameter] of encoder.namedParameters()) {
    if (layerOf(name) <= blocks - lastBlocks) parameter.requiresGrad = false;
  }
}

/** The parameters that are trained, by layer-wise decay of the learning rate and by weight decay. */
export function classifierGroups(model: Classifier, layerDecay: number): ParameterGroup[] {
  return encoderDecayGroups(model, { encoder: model.encoder, prefix: "encoder.", layerDecay });
}

/** The classifier's tensors by timm's names. */
export function classifierTensors({ encoder, fcNorm, head }: Classifier): Map<string, Tensor> {
  const own = [...encoder.stateDict()].filter(([name]) => !fcNorm || !name.startsWith("norm."));
  const headName = encoder instanceof SwinTransformer ? "head.fc" : "head";
  return new Map([...own, ...(fcNorm?.stateDict("fc_norm") ?? []), ...head.stateDict(headName)]);
}

/** Writes the classifier to a safetensors file, its architecture and the given metadata with it. */
export function exportClassifier(path: string, model: Classifier, metadata: Readonly<Record<string, string>>): void {
  const { encoder } = model;
  const { dropPath: _, ...config } = encoder.config;
  const described = { ...(encoder instanceof SwinTransformer && { name: "swin" }), ...config };
  const sorted = Object.fromEntries(Object.entries(described).sort(([a], [b]) => (a < b ? -1 : 1)));
  writeSafetensors(path, classifierTensors(model), { format: "pt", ...metadata, model: JSON.stringify(sorted) });
}
