// `--set optimizer.lr=1e-3`: changes to a recipe from the command line, made before it is checked, so that the schema's messages cover them.
import { ConfigError, type ConfigIssue, show } from "./issues.js";

interface Override {
  text: string;
  keys: string[];
  value: unknown;
}

/**
 * The recipe with `path=value` changes made, later ones after earlier ones. The path's keys are joined by dots, list positions are numbers
 * (`knn.k.0=20`). The value is JSON where it parses (`1e-3`, `true`, `[0.4,1]`, `null`) and a text elsewhere (`folder:/images`). Objects
 * on the way are made where there are none.
 *
 * @throws ConfigError with everything that is wrong
 */
export function applyOverrides(recipe: unknown, overrides: readonly string[]): unknown {
  const issues: ConfigIssue[] = [];
  const changed = structuredClone(recipe);
  for (const text of overrides) {
    const problem = apply(changed, text);
    if (problem) issues.push({ path: problem.path, message: `--set ${text}: ${problem.message}` });
  }
  if (issues.length > 0) throw new ConfigError(issues, "the command line");
  return changed;
}

function parse(text: string): Override | ConfigIssue {
  const sign = text.indexOf("=");
  const path = text.slice(0, sign).trim();
  if (sign < 0 || path === "") return { path: "", message: "expected path=value, such as optimizer.lr=1e-3" };
  const keys = path.split(".");
  if (keys.some((key) => key === "")) return { path, message: `the path "${path}" has an empty key` };
  if (keys.includes("__proto__")) return { path, message: `the path "${path}" has a key that no recipe has` };
  return { text, keys, value: parseValue(text.slice(sign + 1)) };
}

function parseValue(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** Makes one change in place; returns what is wrong with it, if anything. */
function apply(recipe: unknown, text: string): ConfigIssue | undefined {
  const override = parse(text);
  if ("message" in override) return override;
  const { keys, value } = override;
  let here = recipe;
  for (const [depth, key] of keys.entries()) {
    const path = keys.slice(0, depth).join(".");
    if (typeof here !== "object" || here === null) {
      return { path, message: `${path || "the recipe"} is ${show(here)}, which has no key "${key}"` };
    }
    if (Array.isArray(here) && !(/^\d+$/.test(key) && Number(key) <= here.length)) {
      const range = here.length === 0 ? "0" : `0 to ${here.length - 1}, or ${here.length} to add one`;
      return { path, message: `${path} is a list, which has no position "${key}"; expected ${range}` };
    }
    const owner = here as Record<string, unknown>;
    if (depth === keys.length - 1) owner[key] = value;
    else {
      if (!Object.hasOwn(owner, key) || owner[key] === undefined) owner[key] = {};
      here = owner[key];
    }
  }
  return undefined;
}
