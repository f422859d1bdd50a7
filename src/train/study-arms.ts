// An arm's recipe: the base, or one of the arm's own, with the arm's changes made.
import { type ConfigIssue, isRecord } from "../config/index.js";

/**
 * The recipe with an arm's changes made: dotted keys reach inside (`"method.mask"`), objects are merged to any depth, everything else
 * takes the place of what was there; `undefined` removes it. An object whose `name` changes is replaced as a whole, because the
 * options of one method, model or optimiser mean nothing to another.
 *
 * @returns the recipe, and what is wrong with the changes' keys
 */
export function withChanges(
  recipe: unknown,
  set: Readonly<Record<string, unknown>>,
): { recipe: unknown; issues: Omit<ConfigIssue, "path">[] } {
  const issues: Omit<ConfigIssue, "path">[] = [];
  let nested: Record<string, unknown> = {};
  for (const [path, value] of Object.entries(set)) {
    const keys = path.split(".");
    if (keys.some((key) => key === "" || key === "__proto__")) {
      issues.push({ message: `"${path}" is no path into a recipe; expected keys joined by dots, such as "optimizer.lr"` });
      continue;
    }
    const change = keys.reduceRight<unknown>((inside, key) => ({ [key]: inside }), value);
    nested = merged(nested, change, true) as Record<string, unknown>;
  }
  return { recipe: merged(recipe, nested, true), issues };
}

function merged(base: unknown, over: unknown, whole = false): unknown {
  if (!isRecord(base) || !isRecord(over)) return over;
  if (!whole && base.name !== undefined && over.name !== undefined && base.name !== over.name) return over;
  const result: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(over)) {
    if (value === undefined) delete result[key];
    else result[key] = merged(base[key], value);
  }
  return result;
}
