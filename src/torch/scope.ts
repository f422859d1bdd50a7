// Who frees a tensor: scopes are the rule, garbage collection only the safety net. A training step makes gigabytes of temporaries in
// one synchronous stretch, and JavaScript cannot collect them before it ends.
import { ScopeError } from "./errors.js";
import { type MemoryStats, native } from "./native.js";
import { Tensor } from "./tensor.js";

/** Finds the Tensors in a result: in arrays, Maps, plain objects and class instances' own fields, to any depth. */
function tensorsIn(value: unknown, found: Tensor[], seen: Set<object>): Tensor[] {
  if (typeof value !== "object" || value === null) return found;
  if (value instanceof Tensor) {
    found.push(value);
    return found;
  }
  if (ArrayBuffer.isView(value) || seen.has(value)) return found;
  seen.add(value);
  if (Array.isArray(value)) for (const each of value) tensorsIn(each, found, seen);
  else if (value instanceof Map) for (const each of value.values()) tensorsIn(each, found, seen);
  else for (const key of Object.keys(value)) tensorsIn((value as Record<string, unknown>)[key], found, seen);
  return found;
}

/**
 * Runs `fn` and frees every Tensor made inside it, except those in its result, which move to the scope around it, and those given to
 * `keep`. What autograd still needs stays alive in its graph. Scopes nest. If `fn` throws, everything made inside is freed.
 *
 * @throws ScopeError when `fn` returns a promise: after the first `await` other code would run inside the scope. Await first, then
 *   enter the scope.
 */
export function tidy<R>(fn: () => R): R {
  const depth = native.scopeBegin();
  let result: R;
  try {
    result = fn();
  } catch (error) {
    native.scopeEnd(depth);
    throw error;
  }
  if (result instanceof Tensor) native.scopeEnd(depth, [result]);
  else if (typeof result === "object" && result !== null) {
    if (typeof (result as { then?: unknown }).then === "function") {
      native.scopeEnd(depth);
      // The abandoned function will fail on its next use of a tensor; that failure has already been told here.
      (result as unknown as Promise<unknown>).then(undefined, () => {});
      throw new ScopeError("tidy() was given an asynchronous function: await before or after the scope, not inside it");
    }
    native.scopeEnd(depth, tensorsIn(result, [], new Set()));
  } else native.scopeEnd(depth);
  return result;
}

/** Takes a Tensor out of every scope: it lives until dispose() or until garbage collection finds it. Returns it. */
export function keep<T extends Tensor>(tensor: T): T {
  return native.keep(tensor) as T;
}

/** Handles and bytes that are alive now; `handles` after each training step is constant in a program without leaks. */
export function memoryStats(): MemoryStats {
  return native.memoryStats();
}
