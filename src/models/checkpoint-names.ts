// Whose names a file of weights has: where frameworks keep the encoder that is meant to be used, and what they call its parts.
import { TesseraError } from "../errors.js";
import type { Tensor } from "../torch/index.js";

/** A file of weights that is not an encoder this library knows. */
export class WeightsError extends TesseraError {}

/** An encoder's part of a file. */
export interface EncoderTensors {
  /** By timm's names. */
  own: Map<string, Tensor>;
  /** Names in the file that are not the encoder's. */
  ignored: string[];
  /** Heads where the names tell whose code it is, and that code has other ones than 64 channels a head. */
  heads?: number;
}

/** What wraps a model without saying what it is: nested checkpoints that were flattened, data parallel, compiled, this library's own. */
const wrappers = new Set(["state_dict", "model", "model_state", "module", "_orig_mod", "method"]);

// Where frameworks keep encoders, without wrappers; the first that is there counts. DINO's and this library's teacher is what they evaluate, MoCo
// v3 its base encoder, CAE its encoder: its teacher is a copy for the alignment.
const places = [
  "",
  "backbone.",
  "teacher.backbone.",
  "online.backbone.",
  "base_encoder.",
  "encoder.",
  "backbone.encoder.",
  "student.backbone.",
  "teacher.",
];

const stem = "patch_embed.proj.weight";

const unwrapped = (prefix: string) =>
  prefix
    .split(".")
    .filter((part) => !wrappers.has(part))
    .join(".");

/** The prefix of the encoder that is meant. */
function prefixOf(names: readonly string[]): string {
  const found = names.filter((name) => name === stem || name.endsWith(`.${stem}`)).map((name) => name.slice(0, -stem.length));
  const ranked = places.flatMap((place) => found.filter((prefix) => unwrapped(prefix) === place).slice(0, 1));
  const [best] = ranked.length > 0 || found.length > 1 ? ranked : found;
  if (best !== undefined) return best;
  if (found.length > 1) {
    const list = found.map((prefix) => prefix.replace(/\.$/, "")).join(", ");
    throw new WeightsError(`it has several encoders, ${list}, and it is not known which is meant; keep one of them in the file`);
  }
  const convolutions = names.find((name) => /(^|\.)patch_embed\.proj\.0\.weight$/.test(name));
  if (convolutions) throw new WeightsError(unknownPart("a stem of convolutions", convolutions));
  throw new WeightsError(
    `the file has no ${stem}, which a Vision Transformer or a Swin by timm's names has; it has ${names.slice(0, 5).join(", ")}, ...`,
  );
}

/** Parts that change what an encoder computes, which this library's do not have. */
const unknown: readonly [RegExp, string][] = [
  [/^dist_token$/, "a distillation token"],
  [/^(reg_token|register_tokens)$/, "register tokens"],
  [/^absolute_pos_embed$/, "absolute positions of a Swin"],
  [/^norm_pre\./, "a norm before its blocks"],
  [/\.attn\.[qk]_norm\./, "norms of queries and keys"],
  [/\.attn\.(logit_scale|cpb_mlp\..*)$/, "Swin V2's attention"],
  [/\.mlp\.(w12|w1|fc1_g)\./, "gated MLPs"],
];

const unknownPart = (what: string, name: string) => `it has ${what} (${name}), which this library's encoders do not have`;

/**
 * The encoder's tensors by timm's names, and the names of the others.
 *
 * @throws WeightsError in one sentence for what is none of this library's encoders
 */
export function encoderTensors(tensors: ReadonlyMap<string, Tensor>): EncoderTensors {
  const prefix = prefixOf([...tensors.keys()]);
  const own = new Map<string, Tensor>();
  const ignored: string[] = [];
  const inside = (name: string) => (name.startsWith(prefix) ? name.slice(prefix.length) : "");
  // Swin's own code keeps a stage's merging at the end of the stage before it, and tables that follow from the sizes.
  const published = tensors.has(`${prefix}layers.0.downsample.norm.weight`);
  // A classifier that pools before it normalises has its norm under another name.
  const pooled = !tensors.has(`${prefix}norm.weight`);
  for (const [name, tensor] of tensors) {
    const short = pooled ? inside(name).replace(/^fc_norm\./, "norm.") : inside(name);
    for (const [pattern, what] of unknown) if (pattern.test(short)) throw new WeightsError(unknownPart(what, name));
    if (
      /^(cls_token|pos_embed|patch_embed\.|rel_pos_bias\.|blocks\.|layers\.|norm\.)/.test(short) &&
      !/(relative_position_index|attn_mask)$/.test(short)
    ) {
      own.set(
        published
          ? short.replace(/^layers\.(\d+)\.downsample/, (_, stage) => `layers.${Number(stage) + 1}.downsample`)
          : vitName(short),
        tensor,
      );
    } else ignored.push(name);
  }
  checkStem(own.get(stem)!);
  const heads = headsOf(tensors, prefix, own.get(stem)!.size(0));
  return { own, ignored, ...(heads !== undefined && { heads }) };
}

/** BEiT's and CAE's own code, and timm's Beit, call layer scale gamma_1 and gamma_2. */
const vitName = (name: string) => name.replace(/^(blocks\.\d+)\.gamma_([12])$/, "$1.ls$2.gamma");

function checkStem({ shape }: Tensor): void {
  if (shape.length === 4 && shape[2] === shape[3]) return;
  throw new WeightsError(
    `its patch embedding has shape [${shape.join(", ")}]; expected [width, channels, side, side] of square patches of images`,
  );
}

/** MoCo v3's and CAE's own checkpoints: 12 heads for 384 channels too. */
function headsOf(tensors: ReadonlyMap<string, Tensor>, prefix: string, width: number): number | undefined {
  const moco = /(^|\.)(base|momentum)_encoder\.$/.test(prefix);
  const cae = /(^|\.)encoder\.$/.test(prefix) && [...tensors.keys()].some((name) => /(^|\.)pretext_neck\./.test(name));
  return (moco || cae) && width === 384 ? 12 : moco && width === 1280 ? 16 : undefined;
}
