// A recipe: everything that decides a training run, as one object. A recipe file default-exports `defineRecipe({...})`; `resolveRecipe` checks
// it, reports all problems at once, and fills in the defaults, so that what a run was made with can be read off its recipe.json.

import {
  ConfigError,
  type ConfigIssue,
  isRecord,
  issuesOf,
  leavesOf,
  pathsOf,
  problem,
  show,
  unknownKey,
} from "../config/index.js";
import { methodNamed } from "../methods/index.js";
import { nearest } from "../nearest.js";
import { crossChecks } from "./recipe-checks.js";
import {
  backboneFacts,
  fillData,
  fillKnn,
  fillModel,
  fillOptimizer,
  findCrops,
  shorterSide,
  withMethodDefaults,
  withoutColour,
} from "./recipe-defaults.js";
import { aliases, modelSchemas, recipeSchema, recipeSections } from "./recipe-schema.js";
import type { DataRecipe, MethodRecipe, ModelPart, Parts, Recipe, RecipeInput } from "./recipe-types.js";

export { ConfigError, type ConfigIssue } from "../config/index.js";
export type { DataRecipe, MethodRecipe, ModelRecipe, OptimizerRecipe, Recipe, RecipeInput } from "./recipe-types.js";

/** Returns its argument: it is there so that an editor knows the keys and a wrong one does not compile. */
export function defineRecipe(recipe: RecipeInput): RecipeInput {
  return recipe;
}

/**
 * A recipe with every default filled in. A resolved recipe stays as it is.
 *
 * @throws ConfigError with everything that is wrong
 */
export function resolveRecipe(input: unknown): Recipe {
  if (!isRecord(input)) throw new ConfigError([problem("", input, "an object with the sections data and method")]);
  const issues: ConfigIssue[] = [];
  const sections = Object.keys(recipeSections);
  const elsewhere = pathsOf(recipeSchema);
  for (const key of Object.keys(input)) {
    if (!sections.includes(key)) issues.push(unknownKey([], key, sections, { aliases, elsewhere }));
  }
  let given: Record<string, unknown> = input;
  const read = <Name extends keyof typeof recipeSections>(name: Name, found = issues) => {
    const schema = recipeSections[name];
    const result = schema.safeParse(given[name]);
    if (!result.success) found.push(...issuesOf(result.error, schema, given[name], { prefix: [name], aliases, elsewhere }));
    return result.data as ReturnType<(typeof recipeSections)[Name]["parse"]> | undefined;
  };
  // Read first, because the others' defaults depend on it; told of in its place.
  const ofMethod: ConfigIssue[] = [];
  const method = readMethod(input.method, read("method", ofMethod), ofMethod);
  if (method) given = withMethodDefaults(input, method);
  const name = read("name");
  const checkpoint = read("checkpoint");
  const pictures = read("pictures");
  const parts: Parts = { data: read("data"), model: readModel(given.model, issues, elsewhere), method };
  issues.push(...ofMethod);
  Object.assign(parts, { optimizer: read("optimizer"), train: read("train"), knn: read("knn") } satisfies Parts);
  issues.push(...crossChecks(parts, input.method));
  const { data, model, optimizer, train, knn } = parts;
  if (issues.length > 0 || !data || !model || !method || !optimizer || !train || !knn || !checkpoint || !pictures) {
    throw new ConfigError(issues);
  }
  const filled = fillData(data);
  const backbone = fillModel(model, findCrops(method)?.values.globalSize);
  const recipe: Recipe = {
    ...(name !== undefined && { name }),
    data: { ...filled, evalSize: filled.evalSize ?? shorterSide(backbone) },
    model: backbone,
    method: filled.channels === 1 ? withoutColour(method, input.method) : method,
    optimizer: fillOptimizer(optimizer, train.epochs),
    train,
    checkpoint,
    knn: fillKnn(knn, backboneFacts(backbone).classToken),
    pictures,
  };
  // Keys that were given as undefined are as good as not given.
  return JSON.parse(JSON.stringify(recipe)) as Recipe;
}

/**
 * A recipe's data section by itself, for evaluations of an encoder that no recipe is at hand for.
 *
 * @param evalSize pixels of a side where the section does not say
 * @throws ConfigError with everything that is wrong
 */
export function resolveData(input: RecipeInput["data"], evalSize: number): DataRecipe {
  const schema = recipeSections.data;
  const result = schema.safeParse(input);
  const issues = result.success
    ? crossChecks({ data: result.data }, undefined)
    : issuesOf(result.error, schema, input, { prefix: ["data"], aliases });
  if (issues.length > 0 || !result.success) throw new ConfigError(issues, "the data");
  const filled = fillData(result.data);
  return { ...filled, evalSize: filled.evalSize ?? evalSize };
}

/** The model section, by the schema of the backbone that it names. */
function readModel(given: unknown, issues: ConfigIssue[], elsewhere: readonly string[]): ModelPart | undefined {
  const name = (isRecord(given) ? given.name : undefined) ?? "vit";
  const names = Object.keys(modelSchemas);
  if (typeof name !== "string" || !Object.hasOwn(modelSchemas, name)) {
    const near = typeof name === "string" ? nearest(name, names) : undefined;
    const hint = near ? `; did you mean "${near}"?` : "";
    issues.push(problem("model.name", name, `one of ${names.map(show).join(", ")}${hint}`));
    return undefined;
  }
  const schema = modelSchemas[name as keyof typeof modelSchemas];
  const result = schema.safeParse(given);
  if (result.success) return result.data;
  issues.push(...issuesOf(result.error, schema, given, { prefix: ["model"], aliases, elsewhere }));
  return undefined;
}

function readMethod(given: unknown, section: { name: string } | undefined, issues: ConfigIssue[]): MethodRecipe | undefined {
  if (!section) return undefined;
  let definition: ReturnType<typeof methodNamed>;
  try {
    definition = methodNamed(section.name);
  } catch (error) {
    issues.push({ path: "method.name", message: `method.name: ${(error as Error).message}` });
    return undefined;
  }
  const { name, ...options } = given as MethodRecipe;
  const result = definition.options.safeParse(options);
  if (result.success) return { name, ...(result.data as object) };
  issues.push(
    ...issuesOf(result.error, definition.options, options, {
      prefix: ["method"],
      elsewhere: pathsOf(definition.options, "method"),
    }),
  );
  return undefined;
}

/** The largest learning rate of the run: lr, scaled to the images of a step. */
export function peakLearningRate({ optimizer, train }: Recipe): number {
  return optimizer.lrScaling === "none" ? optimizer.lr : (optimizer.lr * train.batchSize * train.accumulate) / 256;
}

/** Keys that may differ between a run and its continuation, because the result does not depend on them; `*` stands for all keys below. */
export const resultNeutralKeys = [
  "name",
  "train.workers",
  "train.prefetch",
  "train.cacheMegabytes",
  "train.cacheFolder",
  "train.logEvery",
  "checkpoint.*",
  "knn.*",
  "pictures.*",
] as const;

const isNeutral = (path: string) =>
  resultNeutralKeys.some((key) => (key.endsWith(".*") ? path.startsWith(key.slice(0, -1)) : path === key));

/** The paths in which two resolved recipes would give different results, in the order of the first. */
export function differingKeys(a: Recipe, b: Recipe): string[] {
  const [left, right] = [leavesOf(a), leavesOf(b)];
  const paths = new Set([...left.keys(), ...right.keys()]);
  return [...paths].filter((path) => left.get(path) !== right.get(path) && !isNeutral(path));
}
