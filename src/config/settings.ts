// Options of a command as one object: a schema's defaults, over them a preset, over that `--set path=value`.
import type { z } from "zod";
import { ConfigError, isRecord, issuesOf, pathsOf } from "./issues.js";
import { applyOverrides } from "./overrides.js";

/**
 * The settings by a schema whose keys have defaults.
 *
 * @param what for errors, such as "the settings of fine-tuning"
 * @param given.preset values over the schema's defaults, nested as the schema is
 * @param given.sets `path=value`, over the preset
 * @throws ConfigError with everything that is wrong
 */
export function resolveSettings<Schema extends z.ZodObject>(
  schema: Schema,
  what: string,
  { preset, sets = [] }: { preset?: z.input<Schema>; sets?: readonly string[] } = {},
): z.output<Schema> {
  const input = applyOverrides(preset ?? {}, sets);
  const result = schema.safeParse(input);
  if (result.success) return result.data;
  throw new ConfigError(issuesOf(result.error, schema, input, { elsewhere: pathsOf(schema) }), what);
}

/** Every value of nested plain data by its path, as JSON. Lists are values. */
export function leavesOf(value: unknown, path = "", found = new Map<string, string>()): Map<string, string> {
  if (isRecord(value)) {
    for (const [key, inner] of Object.entries(value)) leavesOf(inner, path ? `${path}.${key}` : key, found);
  } else if (value !== undefined) found.set(path, JSON.stringify(value));
  return found;
}
