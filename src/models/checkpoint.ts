// Encoders from files: timm's names, whatever prefix a framework put before them, at any image size.
import { readSafetensors, type Tensor, tidy } from "../torch/index.js";
import { createBackbone } from "./backbone.js";
import { type EncoderTensors, encoderTensors, WeightsError } from "./checkpoint-names.js";
import type { Encoder } from "./encoder.js";
import type { SwinConfig } from "./swin.js";
import type { VisionTransformer, VitConfig } from "./vit.js";

export interface LoadedEncoder<E extends Encoder = Encoder> {
  encoder: E;
  /** The file's metadata: method, architecture, epoch, branch, where it was written by this library. */
  metadata: Record<string, string>;
  /** Names in the file that are not the encoder's (classifiers, projection heads). */
  ignored: string[];
}

/** What this library's exports say of their encoder. */
function savedConfig<Config>({ model }: Readonly<Record<string, string>>): Config {
  if (!model) return {} as Config;
  try {
    return JSON.parse(model) as Config;
  } catch (cause) {
    throw new WeightsError(`the metadata's "model" is not JSON: ${model.slice(0, 60)}`, { cause });
  }
}

/**
 * The configuration that fits these tensors. `heads` is not in the weights: metadata, or 64 channels a head as the published sizes have.
 *
 * @param options.heads where the metadata do not say it
 * @param options.imageSize what positions that are no square grid are made for, where the metadata do not say it
 */
export function inferVitConfig(
  own: ReadonlyMap<string, Tensor>,
  metadata: Readonly<Record<string, string>> = {},
  options: Pick<VitConfig, "imageSize" | "heads"> = {},
): VitConfig {
  const saved = savedConfig<VitConfig>(metadata);
  const [width = 0, channels = 3, patchSize = 16] = own.get("patch_embed.proj.weight")!.shape;
  const depth = new Set([...own.keys()].flatMap((name) => /^blocks\.(\d+)\./.exec(name)?.[1] ?? [])).size;
  const classToken = own.has("cls_token");
  const count = own.get("pos_embed")?.size(1);
  if (count === undefined && [...own.keys()].some((name) => name.endsWith(biasTable))) {
    throw new WeightsError(
      "the weights have relative positions alone, as BEiT's; expected a Vision Transformer with a pos_embed too",
    );
  }
  if (count === undefined || depth === 0)
    throw new WeightsError("the weights have no pos_embed or no blocks: not a Vision Transformer");
  const patches = count - (classToken ? 1 : 0);
  const side = Math.round(Math.sqrt(patches));
  const imageSize = saved.imageSize ?? (side * side === patches ? side * patchSize : options.imageSize);
  const [height, columns] = typeof imageSize === "number" ? [imageSize, imageSize] : (imageSize ?? [0, 0]);
  if ((height / patchSize) * (columns / patchSize) !== patches || imageSize === undefined) {
    throw new WeightsError(
      `the positions are for ${patches} patches, which is not a square grid; give the imageSize they are made for`,
    );
  }
  const mlp = own.get("blocks.0.mlp.fc1.weight");
  const inBlocks = own.has("blocks.0.attn.relative_position_bias_table");
  const relPosBias = inBlocks ? "block" : own.has("rel_pos_bias.relative_position_bias_table") ? "shared" : undefined;
  return {
    ...saved,
    imageSize,
    patchSize,
    channels,
    width,
    depth,
    classToken,
    heads: saved.heads ?? options.heads ?? Math.max(1, Math.round(width / 64)),
    mlpRatio: mlp ? mlp.size(0) / width : 4,
    qkvBias: own.has("blocks.0.attn.qkv.bias") || own.has("blocks.0.attn.q_bias"),
    keyBias: !own.has("blocks.0.attn.q_bias"),
    ...(own.has("blocks.0.ls1.gamma") ? { layerScale: 1 } : {}),
    ...(relPosBias && { relPosBias }),
  };
}

/**
 * The configuration that fits these tensors. The size of the images is not in the weights: metadata, or what the bias tables tell of windows
 * that shrank to a grid, or the size at which one window covers the last stage.
 */
export function inferSwinConfig(
  own: ReadonlyMap<string, Tensor>,
  metadata: Readonly<Record<string, string>> = {},
): SwinConfig & { imageSize: NonNullable<SwinConfig["imageSize"]> } {
  const saved = savedConfig<SwinConfig>(metadata);
  const [embedDim = 0, channels = 3, patchSize = 4] = own.get("patch_embed.proj.weight")!.shape;
  const depths: number[] = [];
  for (const name of own.keys()) {
    const [, stage, block] = /^layers\.(\d+)\.blocks\.(\d+)\./.exec(name) ?? [];
    if (stage !== undefined) depths[Number(stage)] = Math.max(depths[Number(stage)] ?? 0, Number(block) + 1);
  }
  const tables = Array.from(depths, (_, i) => own.get(`layers.${i}.blocks.0.attn.${biasTable}`));
  if (tables.length === 0 || tables.some((table) => !table))
    throw new WeightsError(`the weights have stages without ${biasTable}: not a Swin`);
  const { imageSize, windowSize } = saved;
  const mlp = own.get("layers.0.blocks.0.mlp.fc1.weight");
  return {
    ...(imageSize !== undefined && windowSize !== undefined
      ? { imageSize, windowSize }
      : windowsOf(
          tables.map((table) => table!.size(0)),
          patchSize,
        )),
    patchSize,
    channels,
    embedDim,
    depths,
    heads: tables.map((table) => table!.size(1)),
    mlpRatio: mlp ? mlp.size(0) / embedDim : 4,
    qkvBias: own.has("layers.0.blocks.0.attn.qkv.bias"),
  };
}

/** The window and an image size that give stages bias tables of these lengths. */
function windowsOf(lengths: readonly number[], patchSize: number): { imageSize: number; windowSize: number } {
  const windows = lengths.map((length) => (Math.sqrt(length) + 1) / 2);
  const windowSize = Math.max(...windows);
  const shrunk = windows.findIndex((window) => window < windowSize);
  const strides = windows.map((_, stage) => patchSize * 2 ** stage);
  const imageSize = shrunk < 0 ? windowSize * strides.at(-1)! : windows[shrunk]! * strides[shrunk]!;
  const fits = windows.every((window, i) => window === Math.min(windowSize, Math.max(1, Math.floor(imageSize / strides[i]!))));
  if (fits && windows.every(Number.isInteger)) return { imageSize, windowSize };
  throw new WeightsError(
    `the stages have bias tables of ${lengths.join(", ")} rows, which no square windows of one size give; expected a Swin of one window size`,
  );
}

const biasTable = "relative_position_bias_table";

/**
 * Makes the encoder that a safetensors file holds, a Vision Transformer or a Swin: this library's exports and checkpoints, timm's files, and
 * DINO's, MoCo v3's, MAE's, CAE's and Swin's own once converted to safetensors.
 *
 * @param options changes to the inferred configuration of a Vision Transformer, such as heads (a ViT-S of MoCo v3 or CAE under timm's names has 12) or another imageSize; of a
 *   Swin only imageSize and dropPath count
 */
export function loadEncoder(path: string, options: VitConfig = {}): LoadedEncoder {
  return tidy(() => {
    const { tensors, metadata } = readSafetensors(path);
    try {
      const found = encoderTensors(tensors);
      return { encoder: encoderOf(found, metadata, options).eval(), metadata, ignored: found.ignored };
    } catch (cause) {
      throw new WeightsError(`${path} holds no encoder: ${(cause as Error).message}`, { cause });
    }
  });
}

function encoderOf({ own, heads }: EncoderTensors, metadata: Readonly<Record<string, string>>, options: VitConfig): Encoder {
  if (own.has(`layers.0.blocks.0.attn.${biasTable}`)) {
    const { imageSize, dropPath } = options;
    const encoder = createBackbone({
      name: "swin",
      ...inferSwinConfig(own, metadata),
      ...(imageSize !== undefined && { imageSize }),
      ...(dropPath !== undefined && { dropPath }),
    });
    encoder.loadWeights(own);
    return encoder;
  }
  const inferred = inferVitConfig(own, metadata, { ...(heads !== undefined && { heads }), ...options });
  const encoder = createBackbone({ ...inferred, ...options }) as VisionTransformer;
  const size = inferred.imageSize!;
  const [height, width] = typeof size === "number" ? [size, size] : size;
  encoder.loadWeights(own, [height / inferred.patchSize!, width / inferred.patchSize!]);
  return encoder;
}

/** As loadEncoder, for a file that holds a Vision Transformer. */
export function loadVit(path: string, options: VitConfig = {}): LoadedEncoder<VisionTransformer> {
  const loaded = loadEncoder(path, options);
  if ("posEmbed" in loaded.encoder) return loaded as LoadedEncoder<VisionTransformer>;
  throw new WeightsError(`${path} holds a Swin, not a Vision Transformer: take loadEncoder`);
}
