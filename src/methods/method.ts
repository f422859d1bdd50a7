// What a method is to the rest of the house: it says which views it needs, owns its modules, computes a step, and says what to show.
import type { z } from "zod";
import type { Batch, ViewPlan } from "../data/index.js";
import type { Picture } from "../draw/index.js";
import type { Encoder } from "../models/index.js";
import type { Module, StateDict } from "../nn/index.js";
import type { Tensor } from "../torch/index.js";

/** Where training stands. Steps and epochs count from 0. */
export interface Progress {
  step: number;
  totalSteps: number;
  epoch: number;
  epochs: number;
  stepsPerEpoch: number;
  /** Whether this step is written to the log: measurements that cost something are made only then. */
  report: boolean;
}

export interface StepResult {
  /** What is minimised: a scalar with history. */
  loss: Tensor;
  /** The loss's terms by the paper's names, before their weights: scalars. */
  terms: Record<string, Tensor>;
  /** Measurements for the log (teacher entropy, feature deviation): scalars without history. Only when `report` is set. */
  metrics?: Record<string, Tensor>;
}

/** A value of a loss term or metric that means collapse when it stays there, and what to call it. */
export interface TrivialLevel {
  term: string;
  value: number;
  /** Anything below the value means it too. Default false. */
  below?: boolean;
  meaning: string;
}

/** What a run makes when that is no encoder. */
export interface Product {
  /** Names the file: export/<name>.safetensors. */
  readonly name: string;
  /** What is exported, by its state-dict names. */
  readonly module: Module;
  /** Its architecture, for the file's metadata. */
  readonly model: Readonly<Record<string, unknown>>;
}

export interface Method {
  readonly name: string;
  /** What the loader makes of one image. */
  readonly views: ViewPlan;
  /** What the optimiser sees. */
  readonly trainable: Module;
  /** What is evaluated and exported: the teacher, where there is one. Null for a method that trains no encoder; it has a `product`. */
  readonly encoder: Encoder | null;
  /** What is exported where there is no encoder. */
  readonly product?: Product;
  /** Which branch `encoder` (or `product`) is, for the exported file. */
  readonly branch: string;
  /** Parameters without weight decay; the paper's rule. */
  readonly decayRule: "all" | "no-bias-norm";
  /** Levels of the loss that mean collapse. */
  readonly trivialLevels?: readonly TrivialLevel[];
  /** One forward pass. Called inside a scope, under autocast where the recipe asks for it. */
  step(batch: Batch, at: Progress): StepResult;
  /** After backward and clipping, before the optimiser's step: the place to withhold gradients. */
  beforeUpdate?(at: Progress): void;
  /** After the optimiser's step: EMA, centre, queue. */
  afterStep(at: Progress): void;
  /** Reconstructions, masks, attention of some images of a batch. */
  picture?(batch: Batch): Picture[];
  /** Starts from an encoder's weights, by timm's names, instead of random ones; where there is no encoder, from all tensors of a file. */
  initEncoder(weights: ReadonlyMap<string, Tensor>): void;
  /** Everything a resume needs, as live tensors: a checkpoint saves them, a resume copies into them. */
  state(): StateDict;
}

/** What a method is built from. */
export interface MethodContext {
  /** Makes an encoder of the recipe's architecture; `dropPath` false makes one without (teachers). */
  encoder(options?: { dropPath?: boolean }): Encoder;
  /** Channels and normalisation of the data. */
  data: { channels: 1 | 3; mean: readonly number[]; std: readonly number[] };
  /** The run's seed: for choices that are a pure function of (seed, epoch, sample). */
  seed: number;
  /** Images of one forward pass. */
  batchSize: number;
}

export type BackboneName = "vit" | "swin";

/** What a method may ask of the rest of a recipe before anything is made. */
export interface RecipeFacts {
  name: BackboneName;
  /** Rows and columns of the final grid of patches, at the size the recipe trains with. */
  grid: readonly [rows: number, columns: number];
  /** Channels of its features. */
  width: number;
  /** Number of levels: blocks of a ViT, stages of a Swin. */
  depth: number;
  classToken: boolean;
  /** Images of one forward pass. */
  batchSize: number;
}

/** Recipe sections in which a method's paper differs from the library's defaults; they count for keys that the recipe does not give. */
export interface MethodDefaults {
  /** By backbone. */
  model?: { readonly [Name in BackboneName]?: Readonly<Record<string, unknown>> };
  /** Counts only when the recipe names no other optimiser. */
  optimizer?: Readonly<Record<string, unknown>>;
  train?: Readonly<Record<string, unknown>>;
  knn?: Readonly<Record<string, unknown>>;
}

/** An option that does not fit the rest of the recipe. */
export interface MethodIssue {
  /** The option, below the recipe's `method`: `segments.size`. */
  path: string;
  /** Goes on after the path: `is 3; expected a divisor of the 7x7 grid of patches`. */
  message: string;
}

/** A method under its name in recipes. */
export interface MethodDefinition<Options = unknown> {
  readonly name: string;
  /** Checks the `method` section of a recipe (without its `name`) and fills the defaults. */
  readonly options: z.ZodType<Options>;
  /**
   * The backbones it works over; others are refused. Default: Vision Transformers only. None at all for a method without an encoder: the
   * recipe's `model` then says nothing, and no k-NN is made.
   */
  readonly backbones?: readonly BackboneName[];
  defaults?(options: Options): MethodDefaults;
  /** What of the options does not fit the rest of the recipe. */
  check?(options: Options, facts: RecipeFacts): MethodIssue[];
  create(options: Options, context: MethodContext): Method;
}

/** Keeps the options' type between schema and `create`. */
export function defineMethod<Schema extends z.ZodType>(definition: {
  name: string;
  options: Schema;
  backbones?: readonly BackboneName[];
  defaults?(options: z.output<Schema>): MethodDefaults;
  check?(options: z.output<Schema>, facts: RecipeFacts): MethodIssue[];
  create(options: z.output<Schema>, context: MethodContext): Method;
}): MethodDefinition<z.output<Schema>> {
  return definition as MethodDefinition<z.output<Schema>>;
}
