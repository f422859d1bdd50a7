// What a study file holds: recipes side by side, the seeds they run with, and how their encoders are compared.
import { z } from "zod";
import { attentiveOptions, linearOptions } from "../evaluate/index.js";
import { dataSchema, readoutSchema, recipeSections } from "./recipe-schema.js";
import type { RecipeInput } from "./recipe-types.js";

const count = z.int().positive();

/** A recipe itself, or the path of one, relative to the study's file. It is checked as part of each arm. */
const recipe = z.union([z.string().min(1), z.looseObject({})]);

const readoutList = z.array(readoutSchema).min(1).optional();

export const evaluateSchema = z
  .strictObject({
    /** Labelled images, as a recipe's data section says them. Default: each arm's own; an arm's own normalisation in any case. */
    data: dataSchema.omit({ subset: true, channels: true, mean: true, std: true }).optional(),
    /** Use only so many training images, balanced over the classes: the bank of k-NN, what probes learn from. Default all. */
    trainImages: count.optional(),
    /** Use only so many test images, balanced over the classes. Default all. */
    testImages: count.optional(),
    /** k-NN, always made. */
    knn: z
      .strictObject({
        /** Numbers of neighbours. Default [20], DINO's best. */
        k: z.array(count).min(1).default([20]),
        /** Default: class token and mean of the patches; where no arm has a class token, the mean alone. */
        readouts: readoutList,
        /** Of the vote; DINO's. */
        temperature: z.number().positive().default(0.07),
      })
      .prefault({}),
    /** A linear probe of each read-out, by a protocol and what is changed of it. Default: none. */
    linear: linearOptions
      .omit({ readout: true })
      .extend({
        /** Default: those of k-NN. */
        readouts: readoutList,
      })
      .optional(),
    /** An attentive probe of all tokens, by a protocol and what is changed of it. Default: none. */
    attentive: attentiveOptions.optional(),
  })
  .prefault({});

export const armSchema = z.strictObject({
  /** A recipe of the arm's own, instead of the base. */
  recipe: recipe.optional(),
  /** Changes to it: `{ "method.mask": "none" }` or `{ method: { mask: "none" } }`. A section whose `name` changes is replaced as a whole. */
  set: z.looseObject({}).default({}),
  /** What the arm is called in the report. Default: its key. */
  label: z.string().min(1).optional(),
});

export const baselines = ["pixels", "random"] as const;

/** Everything but the arms, which are checked one by one. */
export const studySchema = z.strictObject({
  /** Names the study's folder and its place in a page of results. Default: the file's name. */
  name: recipeSections.name,
  /** Heading of the report. Default: the name. */
  title: z.string().min(1).optional(),
  /** What is compared and why, in a few sentences; the report has it. */
  notes: z.string().min(1).optional(),
  /** What all arms start from. Needed by arms without a recipe of their own. */
  base: recipe.optional(),
  arms: z.looseObject({}),
  /** Every arm runs once with each. Default [0, 1]. */
  seeds: z.array(z.int().min(0)).min(1).default([0, 1]),
  evaluate: evaluateSchema,
  /** What needs no training, evaluated beside the arms: the images' own pixels, and each arm's encoder as it is before training. */
  baselines: z.array(z.enum(baselines)).default([]),
  /** The arm that differences are taken to. Default: the first. */
  reference: z.string().optional(),
  /** A paper's figures, shown beside the results: by arm, then by what the paper calls them. */
  paper: z
    .strictObject({
      table: z.string().min(1),
      values: z.record(z.string(), z.record(z.string(), z.number())),
    })
    .optional(),
});

export interface ArmInput extends Omit<z.input<typeof armSchema>, "recipe" | "set"> {
  recipe?: RecipeInput | string;
  set?: Readonly<Record<string, unknown>>;
}

/** What a study file gives: `arms` are needed, and `base` unless each of them has a recipe; all else has a default. */
export interface StudyInput extends Omit<z.input<typeof studySchema>, "base" | "arms"> {
  /** What the arms add to it may be missing, such as the method. */
  base?: Partial<RecipeInput> | string;
  arms: Readonly<Record<string, ArmInput>>;
}

export type EvaluateSettings = z.output<typeof evaluateSchema>;
export type Baseline = (typeof baselines)[number];
export type Paper = NonNullable<z.output<typeof studySchema>["paper"]>;
