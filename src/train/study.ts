// A study: recipes side by side ("arms"), each trained with several seeds and evaluated in one way. A study file default-exports
// `defineStudy({...})`; `loadStudy` checks it with all its arms' recipes and reports all problems at once, before anything is run.
import { dirname, join } from "node:path";
import { applyOverrides, type ConfigIssue, isRecord, issuesOf, pathsOf, problem, unknownKey } from "../config/index.js";
import { needsClassToken, type Readout } from "../evaluate/index.js";
import { trainsEncoder } from "../methods/index.js";
import { nearest } from "../nearest.js";
import { nameOf, readConfigFile } from "./config-file.js";
import { readRecipe } from "./load-recipe.js";
import { ConfigError, type Recipe, resolveData, resolveRecipe } from "./recipe.js";
import { recipeSections } from "./recipe-schema.js";
import { withChanges } from "./study-arms.js";
import {
  type ArmInput,
  armSchema,
  type Baseline,
  type EvaluateSettings,
  type Paper,
  type StudyInput,
  studySchema,
} from "./study-schema.js";

export type { ArmInput, EvaluateSettings, StudyInput } from "./study-schema.js";

/** One recipe of a study. */
export interface StudyArm {
  name: string;
  /** What the report calls it. */
  label: string;
  /** With the first seed; `armRecipe` gives it with another. */
  recipe: Recipe;
}

/** A study that is checked and complete. */
export interface Study {
  name: string;
  title: string;
  notes?: string;
  arms: StudyArm[];
  seeds: number[];
  /** The arm that differences are taken to. */
  reference: string;
  baselines: Baseline[];
  evaluate: Protocols;
  paper?: Paper;
}

/** How encoders are evaluated, with the read-outs filled in. */
export interface Protocols extends EvaluateSettings {
  knn: EvaluateSettings["knn"] & { readouts: Readout[] };
  linear?: (NonNullable<EvaluateSettings["linear"]> & { readouts: Readout[] }) | undefined;
}

/** Returns its argument: it is there so that an editor knows the keys and a wrong one does not compile. */
export function defineStudy(study: StudyInput): StudyInput {
  return study;
}

/**
 * Reads, checks and completes a study with the recipes of its arms. A study without a name gets the file's.
 *
 * @param overrides `path=value` changes to the recipe of every arm, see applyOverrides
 * @throws RecipeFileError when a file cannot be read, ConfigError with everything that is wrong
 */
export async function loadStudy(path: string, overrides: readonly string[] = []): Promise<Study> {
  const input = await readConfigFile(path, { noun: "study", define: "defineStudy" });
  const named = isRecord(input) && input.name === undefined ? { ...input, name: nameOf(path) } : input;
  return await resolveStudy(named, { folder: dirname(path), what: path, overrides });
}

/**
 * A study with every default filled in and every arm's recipe resolved.
 *
 * @param options.folder what the paths of recipes are relative to; default the working directory
 * @throws RecipeFileError when a recipe cannot be read, ConfigError with everything that is wrong
 */
export async function resolveStudy(
  input: unknown,
  { folder = ".", what = "the study", overrides = [] as readonly string[] } = {},
): Promise<Study> {
  if (!isRecord(input)) throw new ConfigError([{ path: "", message: "expected an object with base and arms" }], what);
  const issues: ConfigIssue[] = [];
  const aliases = { variants: "arms", runs: "arms", baseline: "reference", seed: "seeds", recipe: "base" };
  const elsewhere = [...pathsOf(studySchema), ...Object.keys(recipeSections).map((key) => `base.${key}`)];
  const result = studySchema.safeParse(input);
  if (!result.success) issues.push(...issuesOf(result.error, studySchema, input, { aliases, elsewhere }));
  const given = isRecord(input.arms) ? readArms(input.arms, issues) : [];
  issues.push(...checkNames(input, Object.keys(isRecord(input.arms) ? input.arms : {})));
  const base = await recipeFrom(input.base, folder);
  const arms = await resolveArms(given, { base, folder, overrides, issues });
  if (result.success) issues.push(...checkEvaluation(arms, result.data.evaluate));
  if (issues.length > 0 || !result.success) throw new ConfigError(issues, what);
  const { name = "study", title = name, notes, seeds, reference = arms[0]!.name, baselines, evaluate, paper } = result.data;
  const any = arms.some(({ recipe }) => hasClassToken(recipe));
  const readouts = evaluate.knn.readouts ?? (any ? ["class", "mean"] : ["mean"]);
  return {
    name,
    title,
    ...(notes !== undefined && { notes }),
    arms,
    seeds,
    reference,
    baselines,
    evaluate: {
      ...evaluate,
      knn: { ...evaluate.knn, readouts },
      linear: evaluate.linear && { ...evaluate.linear, readouts: evaluate.linear.readouts ?? readouts },
    },
    ...(paper && { paper }),
  };
}

/** An arm's recipe with a seed, named after study, arm and seed. */
export function armRecipe(study: Pick<Study, "name">, arm: StudyArm, seed: number): Recipe {
  const { recipe } = arm;
  return { ...recipe, name: `${study.name}-${arm.name}-${seed}`, train: { ...recipe.train, seed } };
}

/** The data section that an arm's encoder is evaluated by. */
export function evaluationData({ data }: Pick<Recipe, "data">, { data: own }: Pick<EvaluateSettings, "data">): Recipe["data"] {
  const { subset: _, ...whole } = data; // what a run trains on is no matter of its evaluation
  if (!own) return whole;
  const { channels, mean, std, evalSize } = data;
  return resolveData({ ...own, channels, mean, std }, evalSize);
}

export function hasClassToken({ model }: Pick<Recipe, "model">): boolean {
  return model.name === "vit" && model.classToken;
}

type Arm = { name: string } & ArmInput;

/** The arms whose own keys are sound; names and what is inside their recipes are looked at later. */
function readArms(arms: Record<string, unknown>, issues: ConfigIssue[]): Arm[] {
  if (Object.keys(arms).length === 0) issues.push({ path: "arms", message: "arms is empty; expected at least one arm" });
  return Object.entries(arms).flatMap(([name, arm]) => {
    const path = `arms.${name}`;
    if (!/^[\w][\w.+-]*$/.test(name) || name === baselineFolder) {
      const free = name === baselineFolder ? `a name other than "${baselineFolder}"` : "letters, digits, and . + - _ inside";
      issues.push({ path, message: `the arm "${name}" cannot be called so, because a folder is; expected ${free}` });
      return [];
    }
    const elsewhere = Object.keys(recipeSections).map((key) => `${path}.set.${key}`);
    const dotted = isRecord(arm) ? Object.keys(arm).filter((key) => key.includes(".")) : [];
    for (const key of dotted) issues.push({ path: `${path}.${key}`, message: `${path} has "${key}"; put it in ${path}.set` });
    const plain = isRecord(arm) ? Object.fromEntries(Object.entries(arm).filter(([key]) => !dotted.includes(key))) : arm;
    const parsed = armSchema.safeParse(plain);
    if (!parsed.success) {
      const aliases = { changes: "set", overrides: "set", base: "recipe", title: "label", name: "label" };
      issues.push(...issuesOf(parsed.error, armSchema, plain, { prefix: ["arms", name], elsewhere, aliases }));
      return [];
    }
    // As it was given: a key that is there with the value undefined is a change too.
    return dotted.length > 0 ? [] : [{ ...(plain as ArmInput), name }];
  });
}

/** The folder beside the arms' that baselines have. */
export const baselineFolder = "baselines";

/** What names an arm must name one that is there. */
function checkNames(input: Record<string, unknown>, arms: readonly string[]): ConfigIssue[] {
  const issues: ConfigIssue[] = [];
  const { reference, paper, seeds } = input;
  if (typeof reference === "string" && !arms.includes(reference)) {
    const near = nearest(reference, arms);
    issues.push(problem("reference", reference, `one of ${arms.join(", ")}${near ? `; did you mean "${near}"?` : ""}`));
  }
  const figures = isRecord(paper) && isRecord(paper.values) ? Object.keys(paper.values) : [];
  for (const arm of figures) if (!arms.includes(arm)) issues.push(unknownKey(["paper", "values"], arm, arms));
  if (Array.isArray(seeds) && new Set(seeds).size < seeds.length) {
    issues.push(problem("seeds", seeds, "each seed once"));
  }
  return issues;
}

/** A recipe that is given by its path is read; anything else is what it is. */
async function recipeFrom(given: unknown, folder: string): Promise<unknown> {
  return typeof given === "string" && given !== "" ? await readRecipe(join(folder, given)) : given;
}

async function resolveArms(
  arms: readonly Arm[],
  how: { base: unknown; folder: string; overrides: readonly string[]; issues: ConfigIssue[] },
): Promise<StudyArm[]> {
  const resolved: StudyArm[] = [];
  /** The arms that each problem is in: what is wrong with the base is told once. */
  const wrong = new Map<string, string[]>();
  for (const { name, recipe: own, set = {}, label = name } of arms) {
    const fail = (message: string) => wrong.set(message, [...(wrong.get(message) ?? []), name]);
    const start = own === undefined ? how.base : await recipeFrom(own, how.folder);
    if (start === undefined) {
      fail("there is no recipe; give the study a base, or the arm a recipe");
      continue;
    }
    const { recipe, issues } = withChanges(start, set);
    for (const { message } of issues) fail(`set: ${message}`);
    try {
      const changed = applyOverrides(recipe, how.overrides);
      if (issues.length === 0) resolved.push({ name, label, recipe: resolveRecipe(changed) });
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      for (const { message } of error.issues) fail(message);
    }
  }
  for (const [message, names] of wrong) {
    const who =
      names.length > 1 && names.length === arms.length ? "every arm" : `arm ${names.map((name) => `"${name}"`).join(", ")}`;
    how.issues.push({ path: `arms.${names[0]}`, message: `${who}: ${message}` });
  }
  how.issues.push(...checkDifferent(resolved));
  return resolved;
}

/** Two arms with one recipe are a change that was forgotten. */
function checkDifferent(arms: readonly StudyArm[]): ConfigIssue[] {
  const first = new Map<string, string>();
  return arms.flatMap(({ name, recipe: { name: _, ...recipe } }) => {
    const key = JSON.stringify(recipe);
    const other = first.get(key);
    first.set(key, other ?? name);
    return other === undefined
      ? []
      : [{ path: `arms.${name}`, message: `arm "${name}" has the same recipe as arm "${other}"; change it, or leave it out` }];
  });
}

/** Whether there is something to evaluate every arm on, and something to read off it. */
function checkEvaluation(arms: readonly StudyArm[], evaluate: EvaluateSettings): ConfigIssue[] {
  const issues: ConfigIssue[] = [];
  const without: string[] = [];
  for (const { name, recipe } of arms) {
    if (!trainsEncoder(recipe.method.name)) {
      const message = `arm "${name}": its method "${recipe.method.name}" trains no encoder to evaluate`;
      issues.push({ path: `arms.${name}`, message });
    }
    try {
      if (evaluationData(recipe, evaluate).test === undefined) without.push(name);
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      for (const { path, message } of error.issues) issues.push({ path: `evaluate.${path}`, message: `evaluate.${message}` });
      break; // the same for every arm
    }
  }
  if (without.length > 0) {
    const who = without.map((name) => `"${name}"`).join(", ");
    const hint = evaluate.data ? "give evaluate.data.test" : "give evaluate.data with labelled images: { train, test }";
    issues.push({ path: "evaluate.data", message: `arm ${who}: there are no test images to evaluate on; ${hint}` });
  }
  const { k } = evaluate.knn;
  const largest = Math.max(...k);
  if (evaluate.trainImages !== undefined && largest > evaluate.trainImages) {
    issues.push(problem("evaluate.knn.k", k, `at most evaluate.trainImages, ${evaluate.trainImages}`));
  }
  for (const kind of ["knn", "linear"] as const) {
    const readouts = evaluate[kind]?.readouts;
    if (arms.length > 0 && readouts?.every(needsClassToken) && !arms.some(({ recipe }) => hasClassToken(recipe))) {
      issues.push(problem(`evaluate.${kind}.readouts`, readouts, '"mean", because no arm has a class token'));
    }
  }
  return issues;
}
