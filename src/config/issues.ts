// From what the schema finds to sentences: the path, what was given, what is expected, the nearest key or value.
import type { z } from "zod";
import { TesseraError } from "../errors.js";
import { bare as bareWord, nearest } from "../nearest.js";

export interface ConfigIssue {
  /** Dots between keys: `optimizer.lr`, `knn.k.0`; empty for the recipe as a whole. */
  readonly path: string;
  /** A sentence that begins with the path. */
  readonly message: string;
}

/** A recipe that cannot be used. `issues` has every problem, the message all of them. */
export class ConfigError extends TesseraError {
  constructor(
    readonly issues: readonly ConfigIssue[],
    what = "the recipe",
    options?: { cause?: unknown },
  ) {
    const lines = issues.map(({ message }) => message);
    super(
      lines.length === 1
        ? `${what}: ${lines[0]}`
        : `${what} has ${lines.length} problems:\n${lines.map((line) => `  ${line}`).join("\n")}`,
      options,
    );
  }
}

export interface IssueOptions {
  /** Goes before every path. */
  prefix?: readonly string[];
  aliases?: Readonly<Record<string, string>>;
  /** Paths of the whole recipe: a key that is known elsewhere is pointed to. */
  elsewhere?: readonly string[];
}

type RawIssue = z.core.$ZodIssue;
type Path = readonly PropertyKey[];

const join = (path: Path) => path.map(String).join(".");

/** Everything that is wrong with `input` by this schema. */
export function issuesOf(error: z.ZodError, schema: z.ZodType, input: unknown, options: IssueOptions = {}): ConfigIssue[] {
  return error.issues.flatMap((issue) => sentences(issue, schema, input, options));
}

function sentences(issue: RawIssue, schema: z.ZodType, input: unknown, options: IssueOptions): ConfigIssue[] {
  const { prefix = [] } = options;
  const path = join([...prefix, ...issue.path]);
  if (issue.code === "unrecognized_keys") {
    const known = keysOf(at(schema, issue.path, input));
    return issue.keys.map((key) => unknownKey([...prefix, ...issue.path], key, known, options));
  }
  const given = valueAt(input, issue.path);
  if (issue.code === "invalid_union" && issue.errors.length === 0) {
    const names = namesOf(rawAt(schema, issue.path.slice(0, -1), input), String(issue.path.at(-1)));
    const near = typeof given === "string" ? nearest(given, names) : undefined;
    return [problem(path, given, `one of ${names.map(show).join(", ")}${near ? `; did you mean "${near}"?` : ""}`)];
  }
  if (issue.code === "invalid_union") {
    const inside = branchOf(issue);
    if (inside) {
      const moved = inside.map((each) => ({ ...each, path: [...issue.path, ...each.path] }) as RawIssue);
      return moved.flatMap((each) => sentences(each, schema, input, options));
    }
  }
  const expected = expectation(issue);
  const near = issue.code === "invalid_value" && typeof given === "string" ? nearest(given, issue.values.map(String)) : undefined;
  return [problem(path, given, `${expected}${near ? `; did you mean "${near}"?` : ""}`)];
}

/** `path is given; expected ...` */
export function problem(path: string, given: unknown, expected: string): ConfigIssue {
  const subject = path || "the recipe";
  const state = given === undefined ? "is missing" : `is ${show(given)}`;
  return { path, message: `${subject} ${state}; expected ${expected}` };
}

/** A key that does not exist, with the nearest that does. */
export function unknownKey(parent: Path, key: string, known: readonly string[], options: IssueOptions = {}): ConfigIssue {
  const path = join([...parent, key]);
  const sibling = nearest(key, known, options.aliases);
  const near = sibling ? join([...parent, sibling]) : elsewhere(key, options);
  const hint = near ? `did you mean ${near}? ` : "";
  return { path, message: `${path} is unknown; ${hint}known: ${known.join(", ") || "nothing"}` };
}

/** The path in another section whose last key is this one, or what this one is another word for. Typos are not guessed across sections. */
function elsewhere(key: string, { elsewhere: paths = [], aliases = {} }: IssueOptions): string | undefined {
  const last = (path: string) => path.slice(path.lastIndexOf(".") + 1);
  const word = bareWord(key);
  const alias = Object.entries(aliases).find(([other]) => bareWord(other) === word)?.[1];
  return paths.find((path) => last(path) === alias || bareWord(last(path)) === word);
}

/** The one branch of a union that the value was meant for: the one that complains about what is inside it, not about the whole. */
function branchOf(issue: RawIssue & { code: "invalid_union" }): RawIssue[] | undefined {
  const inner = issue.errors.filter((errors) =>
    errors.every((each) => each.path.length > 0 || each.code === "unrecognized_keys"),
  );
  if (inner.length === 1) return inner[0] as RawIssue[];
  const sameType = issue.errors.filter((errors) => errors.every((each) => each.code !== "invalid_type"));
  return inner.length === 0 && sameType.length === 1 ? (sameType[0] as RawIssue[]) : undefined;
}

const types: Readonly<Record<string, string>> = {
  number: "a number",
  int: "a whole number",
  string: "a text",
  boolean: "true or false",
  object: "an object",
  array: "a list",
  tuple: "a list",
};

function expectation(issue: RawIssue): string {
  switch (issue.code) {
    case "invalid_type":
      return types[issue.expected] ?? `a value of type ${issue.expected}`;
    case "invalid_value": {
      const values = issue.values.map((value) => (typeof value === "string" ? `"${value}"` : String(value)));
      return values.length === 1 ? values[0]! : `one of ${values.join(", ")}`;
    }
    case "too_small":
      return bound(issue.origin, issue.inclusive === false ? "more than" : issue.exact ? "exactly" : "at least", issue.minimum);
    case "too_big":
      return bound(issue.origin, issue.inclusive === false ? "less than" : issue.exact ? "exactly" : "at most", issue.maximum);
    case "not_multiple_of":
      return `a multiple of ${issue.divisor}`;
    case "invalid_union":
      return [...new Set(issue.errors.map((errors) => expectation(errors[0] as RawIssue)))].join(" or ");
    default:
      return issue.message;
  }
}

function bound(origin: string, how: string, limit: number | bigint): string {
  if (origin === "array") return `${how} ${limit} value${limit === 1 ? "" : "s"}`;
  if (origin === "string") return limit === 1 ? "a text that is not empty" : `${how} ${limit} characters`;
  return `${how} ${limit}`;
}

/** A value as it would be written in a recipe, shortened. */
export function show(value: unknown): string {
  if (typeof value === "function") return "a function";
  if (typeof value === "number" || value === undefined || typeof value === "bigint") return String(value);
  let text: string;
  try {
    text = JSON.stringify(value) ?? String(value);
  } catch {
    text = String(value);
  }
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

function valueAt(value: unknown, path: Path): unknown {
  let here = value;
  for (const key of path) {
    if (typeof here !== "object" || here === null) return undefined;
    here = (here as Record<PropertyKey, unknown>)[key];
  }
  return here;
}

interface Def {
  type: string;
  innerType?: z.ZodType;
  shape?: Record<string, z.ZodType>;
  options?: z.ZodType[];
  discriminator?: string;
  values?: unknown[];
  element?: z.ZodType;
  items?: z.ZodType[];
  in?: z.ZodType;
}

const defOf = (schema: z.ZodType) => schema.def as unknown as Def;

/** The schema without its default, optional and so on. */
function bare(schema: z.ZodType): z.ZodType {
  const { innerType, in: input } = defOf(schema);
  const inner = innerType ?? input;
  return inner ? bare(inner) : schema;
}

/** The schema of what stands at a path; of a union, the branch that the input is meant for. */
function at(schema: z.ZodType, path: Path, input: unknown): z.ZodType | undefined {
  const here = rawAt(schema, path, input);
  return here && objectOf(here, valueAt(input, path));
}

/** The schema of what stands at a path, a union as a whole. */
function rawAt(schema: z.ZodType, path: Path, input: unknown): z.ZodType | undefined {
  let here = bare(schema);
  for (const [i, key] of path.entries()) {
    const { shape, items, element } = defOf(objectOf(here, valueAt(input, path.slice(0, i))));
    const next = shape?.[String(key)] ?? items?.[Number(key)] ?? element;
    if (!next) return undefined;
    here = bare(next);
  }
  return here;
}

/** The names by which the branches of a union are told apart. */
function namesOf(union: z.ZodType | undefined, discriminator: string): string[] {
  const options = union ? (defOf(union).options ?? []) : [];
  return options.flatMap((option) => (defOf(defOf(bare(option)).shape![discriminator]!).values ?? []).map(String));
}

/** The branch of a union that is an object: the one that the input names, where its branches are told apart by a name. */
function objectOf(schema: z.ZodType, input: unknown): z.ZodType {
  if (schema.def.type !== "union") return schema;
  const { options = [], discriminator } = defOf(schema);
  const objects = options.map(bare).filter((option) => option.def.type === "object");
  const named =
    discriminator &&
    objects.find((option) => defOf(option).shape![discriminator]!.safeParse(valueAt(input, [discriminator])).success);
  return named || (objects[0] ?? schema);
}

/** The keys of an object's schema. */
export function keysOf(schema: z.ZodType | undefined): string[] {
  return schema ? Object.keys(defOf(bare(schema)).shape ?? {}) : [];
}

/** All paths of a schema to what is no object itself. */
export function pathsOf(schema: z.ZodType, prefix = ""): string[] {
  const { shape } = defOf(bare(schema));
  if (!shape) return prefix ? [prefix] : [];
  return Object.entries(shape).flatMap(([key, inner]) => pathsOf(inner, prefix ? `${prefix}.${key}` : key));
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
