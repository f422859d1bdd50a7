// How deep an encoder's parameters lie, and the groups of a model that trains it with layer-wise decay of the learning rate: fine-tuning,
// segmentation and detection count alike.
import { type Encoder, SwinTransformer } from "../models/index.js";
import type { Module } from "../nn/index.js";
import { layerDecayGroups, type ParameterGroup, swinLayerOf, vitLayerOf } from "../optim/index.js";

/** Where an encoder's parameters lie, counted from 0 at the input, and how many blocks there are. */
export function layersOf(encoder: Encoder): { blocks: number; layerOf: (name: string) => number } {
  if (encoder instanceof SwinTransformer) {
    const { depths } = encoder.config;
    return { blocks: depths.reduce((sum, depth) => sum + depth, 0), layerOf: (name) => swinLayerOf(name, depths) };
  }
  return { blocks: encoder.depth, layerOf: (name) => vitLayerOf(name, encoder.depth) };
}

/** The trained parameters of a model, by layer-wise decay in its encoder, whose names begin with `prefix`, and by weight decay. */
export function encoderDecayGroups(
  model: Module,
  { encoder, prefix, layerDecay }: { encoder: Encoder; prefix: string; layerDecay: number },
): ParameterGroup[] {
  const { blocks, layerOf } = layersOf(encoder);
  return layerDecayGroups(model, {
    layerDecay,
    rule: "no-bias-norm-tokens",
    layerOf: (name) => (name.startsWith(prefix) ? layerOf(name.slice(prefix.length)) : blocks + 1),
  });
}
