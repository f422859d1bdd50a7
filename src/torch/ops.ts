// The generic door to every operator of the dispatcher: torch.ops.aten.add.Tensor(x, y, { alpha: 2 }).
import { ArgumentError, EngineError } from "./errors.js";
import { Generator } from "./generator.js";
import { libtorch, native, type OpArgument, type Schema } from "./native.js";
import { resolve } from "./op.js";
import { Tensor } from "./tensor.js";

/** One overload: positional arguments in the schema's order, then, if wanted, an object of keyword arguments. */
export interface Overload {
  // biome-ignore lint/suspicious/noExplicitAny: what comes back is the operator's own business
  (...args: (OpArgument | Readonly<Record<string, OpArgument>>)[]): any;
  readonly schema: Schema;
}

/** An operator: call it to let the overload be chosen by the arguments' kinds, or name the overload. */
export type Operator = Overload & { readonly [overload: string]: Overload };

/** Operators of one namespace by name. */
export type Namespace = { readonly [name: string]: Operator };

let names: Map<string, string[]> | undefined;

/** Overloads of each operator: "aten::add" -> ["Tensor", "Scalar", ...]; "" is the overload without a name. */
function overloadsOf(full: string): string[] {
  if (!names) {
    names = new Map();
    for (const each of native.listOperators(false)) {
      const dot = each.indexOf(".", each.indexOf("::"));
      const name = dot < 0 ? each : each.slice(0, dot);
      const overload = dot < 0 ? "" : each.slice(dot + 1);
      const list = names.get(name);
      if (list) list.push(overload);
      else names.set(name, [overload]);
    }
  }
  return names.get(full) ?? [];
}

function isKeywords(value: unknown): value is Record<string, OpArgument> {
  if (typeof value !== "object" || value === null || value instanceof Tensor || value instanceof Generator) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

// How well a value fits a schema type: 0 not at all. Only kinds are looked at; nothing is ever run to find out.
function affinity(value: unknown, type: string, hasDefault: boolean, fixedLength = 0): number {
  const optional = type.endsWith("?");
  const base = optional ? type.slice(0, -1) : type;
  if (value === undefined) return hasDefault || optional ? 1 : 0;
  if (value === null) return optional ? 2 : 0;
  const isList = base.endsWith("]");
  if (Array.isArray(value)) {
    if (!isList) return 0;
    const element = base.slice(0, base.lastIndexOf("["));
    return value.every((each) => affinity(each, element, false) > 0) ? 3 : 0;
  }
  if (isList) return fixedLength > 0 && typeof value === "number" ? 1 : 0;
  if (value instanceof Tensor) return base === "Tensor" ? 4 : 0;
  if (value instanceof Generator) return base === "Generator" ? 4 : 0;
  switch (typeof value) {
    case "boolean":
      return base === "bool" ? 4 : base === "Scalar" || base === "number" ? 1 : 0;
    case "bigint":
      return base === "int" || base === "SymInt" ? 4 : base === "Scalar" || base === "number" ? 3 : 0;
    case "number":
      if (base === "Scalar" || base === "number") return 3;
      if (base === "int" || base === "SymInt") return Number.isInteger(value) ? 3 : 0;
      if (base === "float") return 2;
      return base === "Tensor" ? 1 : 0;
    case "string":
      return base === "str" || base === "Device" ? 3 : ["ScalarType", "Layout", "MemoryFormat"].includes(base) ? 2 : 0;
    default:
      return 0;
  }
}

function score(schema: Schema, args: readonly unknown[], named: Readonly<Record<string, unknown>>): number {
  if (args.length > schema.arguments.length) return -1;
  let total = 0;
  const used = new Set<string>();
  for (const [i, argument] of schema.arguments.entries()) {
    if (argument.name in named) used.add(argument.name);
    const value = i < args.length ? args[i] : named[argument.name];
    const points = affinity(value, argument.type, argument.hasDefault, argument.fixedLength);
    if (points === 0) return -1;
    if (value !== undefined) total += points;
  }
  return Object.keys(named).every((key) => used.has(key)) ? total : -1;
}

function overload(full: string): Overload {
  const id = resolve(full);
  const call = (...args: (OpArgument | Readonly<Record<string, OpArgument>>)[]) => {
    const last = args.at(-1);
    return isKeywords(last)
      ? native.callNamed(id, args.slice(0, -1) as OpArgument[], last)
      : native.call(id, ...(args as OpArgument[]));
  };
  return Object.defineProperty(call, "schema", { get: () => native.schemaOf(id) }) as Overload;
}

function operator(full: string): Operator {
  const overloads = overloadsOf(full);
  if (overloads.length === 0) {
    const refused = native.listOperators(true).find((each) => each === full || each.startsWith(`${full}.`));
    const reason = refused && native.refusal(refused);
    throw new EngineError(
      reason ? `${full} cannot be called: ${reason}` : `libtorch ${libtorch.version} has no operator ${full}`,
    );
  }
  const made = new Map<string, Overload>();
  const get = (name: string): Overload => {
    let found = made.get(name);
    if (!found) {
      found = overload(name === "" ? full : `${full}.${name}`);
      made.set(name, found);
    }
    return found;
  };
  const choose = (...args: (OpArgument | Readonly<Record<string, OpArgument>>)[]): unknown => {
    const last = args.at(-1);
    const named = isKeywords(last) ? last : {};
    const positional = isKeywords(last) ? args.slice(0, -1) : args;
    const scored = overloads
      .map((name) => ({ name, points: score(get(name).schema, positional, named) }))
      .filter(({ points }) => points >= 0)
      .sort((a, b) => b.points - a.points || (a.name < b.name ? -1 : 1));
    const best = scored[0];
    if (!best) {
      const schemas = overloads.map((name) => `  ${get(name).schema.text}`).join("\n");
      throw new ArgumentError(`no overload of ${full} takes these arguments; it has:\n${schemas}`);
    }
    return get(best.name)(...args);
  };
  return new Proxy(choose as unknown as Operator, {
    get: (_, key) => {
      if (typeof key !== "string" || key === "then") return undefined; // await looks for "then"
      if (key === "schema") return get(overloads.includes("") ? "" : overloads[0]!).schema;
      const name = key === "default" ? "" : key;
      if (!overloads.includes(name)) {
        throw new EngineError(
          `${full} has no overload "${key}"; it has: ${overloads.map((each) => each || "default").join(", ")}`,
        );
      }
      return get(name);
    },
  });
}

/** `ops.aten.softmax.int(x, -1)`, `ops.aten.add(x, 2)`: any operator of any namespace. Typed use goes through Tensor's methods. */
export const ops: { readonly [namespace: string]: Namespace } = new Proxy(
  {},
  {
    get: (_, namespace) => {
      if (typeof namespace !== "string" || namespace === "then") return undefined;
      const made = new Map<string, Operator>();
      return new Proxy({} as Namespace, {
        get: (_target, name) => {
          if (typeof name !== "string" || name === "then") return undefined;
          let found = made.get(name);
          if (!found) {
            found = operator(`${namespace}::${name}`);
            made.set(name, found);
          }
          return found;
        },
      });
    },
  },
);
