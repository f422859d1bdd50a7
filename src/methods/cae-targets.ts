// What CAE's decoder predicts: the pixels of masked patches, a tokenizer's codes for them (the paper), or the features of a frozen encoder
// (CAE v2). Each says how large its output is, which view of the crop it needs, and what the loss is.
import { z } from "zod";
import { type Batch, denormalise, type PairedView, type ViewPlan } from "../data/index.js";
import { type Encoder, gatherTokens, loadEncoder, loadTokenizer, type Tokenizer } from "../models/index.js";
import { atLeastFloat32, cat, crossEntropy, mseLoss, noGrad, normalize, type Tensor, tensor } from "../torch/index.js";
import { MethodOptionError } from "./errors.js";
import type { MethodContext } from "./method.js";
import { imagesOfPatches, patchTarget } from "./patch-target.js";

export const caeTargetOptions = z
  .discriminatedUnion("kind", [
    z.strictObject({
      kind: z.literal("tokens"),
      /** A tokenizer's safetensors file. */
      tokenizer: z.string().min(1),
    }),
    z.strictObject({
      kind: z.literal("pixels"),
      /** Each patch normalised by its own mean and deviation. */
      normalize: z.boolean().default(true),
    }),
    z.strictObject({
      kind: z.literal("features"),
      /** The frozen encoder's safetensors file. */
      encoder: z.string().min(1),
      /** Compare all tokens, visible ones and the class token too (CAE v2), or the masked ones only. */
      tokens: z.enum(["all", "masked"]).default("all"),
    }),
  ])
  .prefault({ kind: "pixels" });

export type CaeTargetOptions = z.output<typeof caeTargetOptions>;

/** One batch as a target sees it. */
export interface CaeBatch {
  batch: Batch;
  /** The model's view, [B, channels, H, W]. */
  images: Tensor;
  /** Numbers of the masked and the visible patches, int64 [B, m] and [B, v]. */
  masked: Tensor;
  visible: Tensor;
}

export interface CaeLoss {
  /** The term's name in the log. */
  term: string;
  loss: Tensor;
  metrics: Record<string, Tensor>;
}

export interface CaeTarget {
  /** Numbers that are predicted of each patch. */
  readonly outFeatures: number;
  /** The view it needs beside the model's. */
  readonly pair: PairedView | null;
  /** Whether class token and visible tokens are predicted too: predictions then come as [class, visible, masked]. */
  readonly everything: boolean;
  loss(predicted: Tensor, given: CaeBatch): CaeLoss;
  /** Images of what is predicted of the masked patches, where a target can be seen. */
  images?(predicted: Tensor, given: CaeBatch): Tensor;
}

/** What a target must know of the encoder and the data. */
interface Setting {
  encoder: Encoder;
  size: number;
  data: MethodContext["data"];
  views: () => ViewPlan;
}

export function createTarget(options: CaeTargetOptions, setting: Setting): CaeTarget {
  if (options.kind === "pixels") return pixelTarget(options.normalize, setting);
  if (options.kind === "tokens") return tokenTarget(options, setting);
  return featureTarget(options, setting);
}

function pixelTarget(normalized: boolean, { encoder: { stride, channels } }: Setting): CaeTarget {
  const target = (images: Tensor, chosen?: Tensor) => patchTarget(images, stride, normalized, chosen);
  return {
    outFeatures: stride ** 2 * channels,
    pair: null,
    everything: false,
    loss: (predicted, { images, masked }) => ({
      term: "mse",
      loss: mseLoss(atLeastFloat32(predicted), target(images, masked)),
      metrics: {},
    }),
    images: (predicted, { images, masked }) => {
      const index = masked.unsqueeze(-1).expand(predicted.shape);
      return imagesOfPatches(target(images).clone().scatter_(1, index, predicted.float()), images, stride, normalized);
    },
  };
}

/** What a file holds, or an error that says which option named it. */
function fromFile<T>(option: string, load: () => T): T {
  try {
    return load();
  } catch (cause) {
    throw new MethodOptionError(`${option}: ${(cause as Error).message}`, { cause });
  }
}

function tokenTarget({ tokenizer: path }: CaeTargetOptions & { kind: "tokens" }, setting: Setting): CaeTarget {
  const { encoder, size, views } = setting;
  const tokenizer: Tokenizer = fromFile("method.target.tokenizer", () => loadTokenizer(path));
  if (tokenizer.channels !== encoder.channels) {
    throw new MethodOptionError(
      `method.target.tokenizer is "${path}", a tokenizer of images with ${channelsOf(tokenizer)}; expected one for the data's ${encoder.channels}`,
    );
  }
  tokenizer.eval().requiresGrad_(false);
  const side = size / encoder.stride;
  /** The tokenizer's view with values from 0 to 1: a normalised one would be another image to it. */
  const pixels = ({ batch }: CaeBatch) => denormalise(batch.views.tokens!.flatten(0, 1), views()).clamp({ min: 0, max: 1 });
  return {
    outFeatures: tokenizer.vocabulary,
    // One code a patch: 8 x 14 = 112 px for DALL-E's stride of 8 and 224 / 16 patches.
    pair: { name: "tokens", size: side * tokenizer.stride, interpolation: "lanczos" },
    everything: false,
    loss: (predicted, given) => {
      const labels = noGrad(() => codesAt(tokenizer, pixels(given), given.masked)).flatten();
      const logits = atLeastFloat32(predicted).flatten(0, 1);
      const accuracy = noGrad(() => logits.argmax(1).eq(labels).float().mean());
      return { term: "ce", loss: crossEntropy(logits, labels), metrics: { accuracy } };
    },
    ...(tokenizer.decodes && {
      images: (predicted: Tensor, given: CaeBatch) => {
        const codes = tokenizer.encode(pixels(given)).flatten(1).clone();
        codes.scatter_(1, given.masked, predicted.argmax(-1));
        return tokenizer.decode(codes.unflatten(1, [side, side]));
      },
    }),
  };
}

/** The codes of the masked patches. */
function codesAt(tokenizer: Tokenizer, images: Tensor, positions: Tensor): Tensor {
  return tokenizer.encodeAt?.(images, positions) ?? tokenizer.encode(images).flatten(1).gather(1, positions);
}

function featureTarget({ encoder: path, tokens }: CaeTargetOptions & { kind: "features" }, setting: Setting): CaeTarget {
  const { encoder: frozen, metadata } = fromFile("method.target.encoder", () => loadEncoder(path));
  frozen.requiresGrad_(false);
  const { encoder, size, data, views } = setting;
  if (frozen.channels !== encoder.channels) {
    throw new MethodOptionError(
      `method.target.encoder is "${path}", an encoder of images with ${channelsOf(frozen)}; expected one for the data's ${encoder.channels}`,
    );
  }
  const everything = tokens === "all";
  const own = (size / encoder.stride) * frozen.stride;
  const pair: PairedView | null = own === size ? null : { name: "target", size: own, interpolation: "bicubic" };
  const scale = {
    channels: data.channels,
    mean: metadata.mean ? (JSON.parse(metadata.mean) as number[]) : data.mean,
    std: metadata.std ? (JSON.parse(metadata.std) as number[]) : data.std,
  };
  const input = ({ batch, images }: CaeBatch) => {
    const pixels = denormalise(pair ? batch.views.target!.flatten(0, 1) : images, views());
    return pixels.sub(channelwise(scale.mean)).div(channelwise(scale.std));
  };
  return {
    outFeatures: frozen.width,
    pair,
    everything,
    loss: (predicted, given) => {
      const target = noGrad(() => {
        const { patches, feature } = frozen.call(input(given));
        const masked = gatherTokens(patches!, given.masked);
        if (!everything) return masked;
        return cat([feature.unsqueeze(1), gatherTokens(patches!, given.visible), masked], 1);
      });
      const cosine = normalize(atLeastFloat32(predicted)).mul(normalize(target)).sum(-1);
      return { term: "cosine", loss: cosine.mean().neg().add(1), metrics: {} };
    },
  };
}

function channelwise(values: readonly number[]): Tensor {
  return tensor([...values]).reshape([1, values.length, 1, 1]);
}

const channelsOf = ({ channels }: { channels: number }) => (channels === 1 ? "1 channel" : `${channels} channels`);
