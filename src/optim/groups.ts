// Which parameters share a learning rate and a weight decay. Every rule goes by the parameter's name and shape, because that is how
// the papers and their code state it.
import type { Module } from "../nn/index.js";
import type { Tensor } from "../torch/index.js";
import { OptimizerError } from "./errors.js";

/** Parameters that are treated alike. `names[i]` belongs to `parameters[i]`; optimiser state is saved under it. */
export interface ParameterGroup {
  readonly parameters: readonly Tensor[];
  readonly names: readonly string[];
  /** Factor on the optimiser's learning rate. Default 1. */
  readonly lrScale?: number;
  /** Factor on the optimiser's weight decay; 0 for what does not decay. Default 1. */
  readonly decayScale?: number;
}

/**
 * Which parameters decay: `all` (MoCo v3: biases, norms and tokens too), `no-bias-norm` (DINO: not biases and not what has one dimension;
 * CLS token and positions have three and decay; Swin: not its tables of position biases), `no-bias-norm-tokens` (DeiT, BEiT, MAE: neither CLS
 * and mask token and positions; BEiT's tables decay, Swin's do not), or true for those that do.
 */
export type DecayRule = "all" | "no-bias-norm" | "no-bias-norm-tokens" | ((name: string, parameter: Tensor) => boolean);

function decays(rule: DecayRule, name: string, parameter: Tensor): boolean {
  if (rule === "all") return true;
  if (rule === "no-bias-norm") return !/(^|\.)(bias|relative_position_bias_table)$/.test(name) && parameter.ndim > 1;
  if (rule === "no-bias-norm-tokens") {
    const swinTable = /(^|\.)layers\..*\.relative_position_bias_table$/.test(name);
    return parameter.ndim > 1 && !swinTable && !/(^|\.)(bias|cls_token|mask_token|pos_embed)$/.test(name);
  }
  return rule(name, parameter);
}

function trained(module: Module): [string, Tensor][] {
  return [...module.namedParameters()].filter(([, parameter]) => parameter.requiresGrad);
}

function group(
  entries: readonly (readonly [string, Tensor])[],
  scales: { lrScale?: number; decayScale?: number },
): ParameterGroup {
  return { parameters: entries.map(([, tensor]) => tensor), names: entries.map(([name]) => name), ...scales };
}

/** One group for what decays and one for what does not, in this order; an empty one is left out. Frozen parameters are in neither. */
export function decayGroups(module: Module, rule: DecayRule = "no-bias-norm"): ParameterGroup[] {
  const entries = trained(module).map(([name, tensor]) => [name, tensor, decays(rule, name, tensor)] as const);
  return [1, 0].flatMap((decayScale) => {
    const chosen = entries.filter(([, , yes]) => yes === (decayScale === 1)).map(([name, tensor]) => [name, tensor] as const);
    return chosen.length > 0 ? [group(chosen, { decayScale })] : [];
  });
}

/**
 * Depth of a ViT parameter as BEiT and MAE count it: 0 for what makes the tokens (patch embedding, CLS and mask token, positions), i + 1 for
 * block i, depth + 1 for everything after the blocks, which is what an added head counts as too.
 */
export function vitLayerOf(name: string, depth: number): number {
  if (/^(patch_embed|cls_token|mask_token|pos_embed)(\.|$)/.test(name)) return 0;
  const block = /^blocks\.(\d+)\./.exec(name);
  return block ? Number(block[1]) + 1 : depth + 1;
}

/**
 * Depth of a Swin parameter as its fine-tuning counts it (SimMIM's code): 0 for the patch embedding and the mask token, then one for each block
 * over all stages; what merges patches before a stage counts as the last block before it; one more for everything after the blocks.
 *
 * @param depths blocks of each stage
 */
export function swinLayerOf(name: string, depths: readonly number[]): number {
  const blocksBefore = (stage: number) => depths.slice(0, stage).reduce((sum, depth) => sum + depth, 0);
  if (/^(patch_embed|mask_token)(\.|$)/.test(name)) return 0;
  const [, stage, block] = /^layers\.(\d+)\.(?:blocks\.(\d+)|downsample)\./.exec(name) ?? [];
  if (stage === undefined) return blocksBefore(depths.length) + 1;
  return blocksBefore(Number(stage)) + (block === undefined ? 0 : Number(block) + 1);
}

export interface LayerDecayOptions {
  /** Factor on the learning rate from each layer to the one below it; 0.65 to 0.75 for fine-tuning a ViT-B. */
  layerDecay: number;
  /** Default `no-bias-norm`. */
  rule?: DecayRule;
  /** Where the ViT is inside the module, for example `encoder`. What lies outside counts as after the blocks. Default: the module itself. */
  prefix?: string;
  /** Another way to count: from 0 at the input; the highest layer that occurs has the full rate. Default vitLayerOf. */
  layerOf?: (name: string) => number;
}

/**
 * Groups whose learning rate falls by `layerDecay` with each layer away from the output: layerDecay^(depth + 1 - layer) (BEiT, MAE), each
 * split by the decay rule.
 *
 * @throws OptimizerError when there is no block below `prefix`
 */
export function layerDecayGroups(module: Module, options: LayerDecayOptions): ParameterGroup[] {
  const { layerDecay, rule = "no-bias-norm", prefix = "", layerOf } = options;
  const entries = trained(module);
  const count = layerOf ?? vitCounter(prefix, [...module.namedParameters()]);
  const layers = entries.map(([name]) => count(name));
  const last = layerOf ? Math.max(...layers) : count("");
  const groups = new Map<string, { layer: number; decayScale: number; entries: [string, Tensor][] }>();
  for (const [i, entry] of entries.entries()) {
    const layer = layers[i]!;
    const decayScale = decays(rule, ...entry) ? 1 : 0;
    const key = `${layer} ${decayScale}`;
    const found = groups.get(key);
    if (found) found.entries.push(entry);
    else groups.set(key, { layer, decayScale, entries: [entry] });
  }
  return [...groups.values()].map(({ layer, decayScale, entries: own }) =>
    group(own, { lrScale: layerDecay ** (last - layer), decayScale }),
  );
}

/** Counts a ViT's layers; the name "" stands for what comes after the blocks. */
function vitCounter(prefix: string, entries: readonly (readonly [string, Tensor])[]): (name: string) => number {
  const start = prefix === "" ? "" : `${prefix}.`;
  const inside = (name: string) => (name.startsWith(start) ? name.slice(start.length) : "");
  const blocks = entries
    .map(([name]) => /^blocks\.(\d+)\./.exec(inside(name)))
    .flatMap((match) => (match ? [Number(match[1])] : []));
  if (blocks.length === 0) {
    throw new OptimizerError(
      `layerDecayGroups found no parameter named ${start}blocks.0...; name the ViT inside the module with { prefix }, or give { layerOf }`,
    );
  }
  const depth = Math.max(...blocks) + 1;
  return (name) => vitLayerOf(inside(name), depth);
}
