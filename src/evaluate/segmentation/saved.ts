// A trained segmenter as one safetensors file: weights by mmsegmentation's names, and in the metadata its architecture, its classes, how its images
// were normalised and how it is tested.
import { z } from "zod";
import type { PixelScale } from "../../data/index.js";
import {
  type BackboneConfig,
  createBackbone,
  Segmenter,
  type SegmenterConfig,
  SwinTransformer,
  type VisionTransformer,
} from "../../models/index.js";
import { readSafetensors, readSafetensorsHeader, tidy, writeSafetensors } from "../../torch/index.js";
import { EvaluateError } from "../errors.js";
import type { SavedTest } from "./infer.js";

export interface SavedSegmenter {
  readonly model: Segmenter;
  readonly classes: readonly string[];
  readonly scale: PixelScale;
  /** How it is tested, unless asked otherwise. */
  readonly test: SavedTest;
}

const KIND = "segment";

const side = z.int().positive();
const described = z.object({
  classes: z.array(z.string()).min(2),
  channels: z.union([z.literal(1), z.literal(3)]),
  mean: z.array(z.number()),
  std: z.array(z.number().positive()),
  head: z.object({ head: z.enum(["linear", "fcn", "upernet"]) }).loose(),
  test: z.object({
    mode: z.enum(["slide", "whole"]),
    window: z.tuple([side, side]),
    stride: side,
    fit: z.object({ short: side, long: side.nullable() }),
    flip: z.boolean(),
    scales: z.array(z.number().positive()).min(1),
  }),
});

/** Writes a segmenter. @param config what it was made with, except the number of classes */
export function saveSegmenter(
  path: string,
  { model, classes, scale, test }: SavedSegmenter,
  config: Omit<SegmenterConfig, "classes" | "frozen">,
  metadata: Readonly<Record<string, string>> = {},
): void {
  const encoder = model.encoder as VisionTransformer | SwinTransformer;
  const { dropPath: _, ...own } = encoder.config;
  const backbone = { ...(encoder instanceof SwinTransformer && { name: "swin" }), ...own };
  const sorted = Object.fromEntries(Object.entries(backbone).sort(([a], [b]) => (a < b ? -1 : 1)));
  writeSafetensors(path, model.stateDict(), {
    format: "pt",
    ...metadata,
    evaluation: KIND,
    model: JSON.stringify(sorted),
    head: JSON.stringify(config),
    classes: JSON.stringify(classes),
    mean: JSON.stringify(scale.mean),
    std: JSON.stringify(scale.std),
    test: JSON.stringify(test),
  });
}

/** Whether a safetensors file says that it is a segmenter. */
export function isSegmenterFile(path: string): boolean {
  return readSafetensorsHeader(path).metadata.evaluation === KIND;
}

/** @throws EvaluateError for a file that is no segmenter of this library, or a damaged one */
export function loadSegmenter(path: string): SavedSegmenter {
  return tidy(() => {
    const { tensors, metadata } = readSafetensors(path);
    if (metadata.evaluation !== KIND) {
      throw new EvaluateError(`${path} is no trained segmenter; expected the export of \`tessera evaluate segment\`.`);
    }
    try {
      const read = (name: string) => JSON.parse(metadata[name] ?? "null") as unknown;
      const backbone = read("model") as BackboneConfig;
      const [classes, mean, std, head, test] = ["classes", "mean", "std", "head", "test"].map(read);
      const encoder = createBackbone(backbone);
      const about = described.parse({ classes, channels: encoder.channels, mean, std, head, test });
      const model = new Segmenter(encoder, {
        ...(about.head as Omit<SegmenterConfig, "classes">),
        classes: about.classes.length,
      });
      model.loadStateDict(tensors);
      const scale = { channels: about.channels, mean: about.mean, std: about.std };
      return { model: model.eval(), classes: about.classes, scale, test: about.test };
    } catch (cause) {
      const reason = cause instanceof z.ZodError ? "its metadata is incomplete" : (cause as Error).message;
      throw new EvaluateError(`${path} cannot be used: ${reason}`, { cause });
    }
  });
}
