// Operators by name and overload, resolved once and called through the bridge.
import { EngineError } from "./errors.js";
import { libtorch, native, type OpArgument } from "./native.js";
import type { Tensor } from "./tensor.js";

const declared = new Map<string, { optional: boolean }>();

/** Every operator the library itself names, for the test that compares them with the live libtorch. */
export function declaredOperators(): ReadonlyMap<string, { optional: boolean }> {
  return declared;
}

/** True when this libtorch has the operator `name.overload` and it can be called, for example `hasOp("_fused_adamw_")`. */
export function hasOp(name: string): boolean {
  return native.resolveOperator(name) >= 0;
}

/** The number of an operator; throws an EngineError that says why there is none. */
export function resolve(name: string): number {
  const id = native.resolveOperator(name);
  if (id >= 0) return id;
  const reason = native.refusal(name);
  throw new EngineError(reason ? `${name} cannot be called: ${reason}` : `libtorch ${libtorch.version} has no operator ${name}`);
}

/**
 * An operator as a function of its arguments in the schema's order; `undefined` stands for the default.
 *
 * @param name `name.overload`, for example `add.Tensor`; the namespace `aten::` is understood.
 */
export function op<R = Tensor>(name: string): (...args: OpArgument[]) => R {
  declared.set(name, { optional: false });
  let id = -1;
  return (...args) => {
    if (id < 0) id = resolve(name);
    return native.call(id, ...args) as R;
  };
}

/** As `op`, for an operator that some libtorch versions lack: look at `available` before calling. */
export function optionalOp<R = Tensor>(name: string): ((...args: OpArgument[]) => R) & { readonly available: boolean } {
  const call = op<R>(name);
  declared.set(name, { optional: true });
  let available: boolean | undefined;
  return Object.defineProperty((...args: OpArgument[]) => call(...args), "available", {
    get: () => {
      available ??= hasOp(name);
      return available;
    },
  }) as ReturnType<typeof optionalOp<R>>;
}

/** As `op`, with keyword arguments: for operators whose argument order differs between versions. */
export function namedOp<R = Tensor>(
  name: string,
  options: { optional?: boolean } = {},
): ((args: readonly OpArgument[], named: Readonly<Record<string, OpArgument>>) => R) & { readonly available: boolean } {
  declared.set(name, { optional: options.optional ?? false });
  let id: number | undefined;
  const find = () => {
    id ??= native.resolveOperator(name);
    return id;
  };
  return Object.defineProperty(
    (args: readonly OpArgument[], named: Readonly<Record<string, OpArgument>>) =>
      native.callNamed(find() < 0 ? resolve(name) : find(), args, named) as R,
    "available",
    { get: () => find() >= 0 },
  ) as ReturnType<typeof namedOp<R>>;
}
