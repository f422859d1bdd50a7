// The methods by the name that recipes use, and the types of their options.
import type { z } from "zod";
import { nearest } from "../nearest.js";
import { cae, type caeOptions } from "./cae.js";
import { dino, type dinoOptions } from "./dino.js";
import { UnknownMethodError } from "./errors.js";
import { mae, type maeOptions } from "./mae.js";
import type { MethodDefinition } from "./method.js";
import { mocoV3, type mocoV3Options } from "./moco-v3.js";
import { mst, type mstOptions } from "./mst.js";
import { randsac, type randsacOptions } from "./randsac.js";
import { repre, type repreOptions } from "./repre.js";
import { tokenizer, type tokenizerOptions } from "./tokenizer.js";

/**
 * The options a recipe may give each method. A project with a method of its own adds it to have `defineRecipe` check its options:
 *
 *     declare module "tessera/methods" { interface MethodOptions { mine: { weight?: number } } }
 */
export interface MethodOptions {
  cae: NonNullable<z.input<typeof caeOptions>>;
  dino: NonNullable<z.input<typeof dinoOptions>>;
  mae: NonNullable<z.input<typeof maeOptions>>;
  "moco-v3": NonNullable<z.input<typeof mocoV3Options>>;
  mst: NonNullable<z.input<typeof mstOptions>>;
  randsac: NonNullable<z.input<typeof randsacOptions>>;
  repre: NonNullable<z.input<typeof repreOptions>>;
  tokenizer: NonNullable<z.input<typeof tokenizerOptions>>;
}

/** The `method` section of a recipe: a name and that method's options. */
export type MethodSection = { [Name in keyof MethodOptions]: { name: Name } & MethodOptions[Name] }[keyof MethodOptions];

/** Every known method by name. */
export const methods: Record<string, MethodDefinition> = { cae, dino, mae, "moco-v3": mocoV3, mst, randsac, repre, tokenizer };

/**
 * The method of this name.
 *
 * @throws UnknownMethodError that lists the known ones and the nearest
 */
export function methodNamed(name: string): MethodDefinition {
  const found = Object.hasOwn(methods, name) ? methods[name] : undefined;
  if (found) return found;
  const near = nearest(name, Object.keys(methods));
  throw new UnknownMethodError(
    `there is no method "${name}"${near ? `; did you mean "${near}"?` : ";"} known: ${Object.keys(methods).join(", ")}`,
  );
}

/** Whether runs by this method have an encoder to evaluate. @throws UnknownMethodError */
export function trainsEncoder(name: string): boolean {
  return methodNamed(name).backbones?.length !== 0;
}

/**
 * Adds a method under its name, so that recipes can use it. A recipe file does this before its `defineRecipe`. Giving a name a second time
 * replaces the method.
 */
export function registerMethod(definition: MethodDefinition): void {
  if (!/^[a-z][a-z0-9-]*$/.test(definition.name)) {
    throw new UnknownMethodError(
      `a method cannot be called "${definition.name}"; expected lower-case letters, digits and hyphens`,
    );
  }
  methods[definition.name] = definition;
}
