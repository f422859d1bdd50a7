// What operators cost, for benchmarks: every one that libtorch runs, those of backward too, by name and by region of the forward pass.
import { native } from "./native.js";

/** What the calls of one operator took together, without the operators that it calls itself. */
export interface OperatorTime {
  /** `aten::mm`; a node of backward's graph is named `MmBackward0`. */
  name: string;
  /** Its arguments, where shapes were asked for: sizes of tensors, whole numbers and truth values, null for all else; and lists of these. */
  shapes: readonly unknown[] | null;
  /** The region it belongs to: 0 outside all. An operator of backward belongs to the one that made its node of the graph. */
  region: number;
  backward: boolean;
  calls: number;
  /** Milliseconds on the clock. */
  wall: number;
  /** Milliseconds of processor time, of all threads of the process together. */
  cpu: number;
}

/**
 * Runs the synchronous `fn` and tells of every operator. It takes a few microseconds an operator; nothing while no profile is taken.
 *
 * @param options.shapesOf operators whose arguments are wanted, such as `aten::mm`. Calls inside one of them are not told of by shape, so
 *   that work counted by shapes is counted once
 */
export function profile<R>(
  fn: () => R,
  { shapesOf = [] }: { shapesOf?: readonly string[] } = {},
): { result: R; operators: OperatorTime[] } {
  native.profileStart(shapesOf);
  let operators: OperatorTime[] = [];
  let result: R;
  try {
    result = fn();
  } finally {
    operators = native
      .profileStop()
      .map(({ shapes, ...rest }) => ({ ...rest, shapes: shapes === "" ? null : (JSON.parse(shapes) as unknown[]) }));
  }
  return { result, operators };
}

/** Runs the synchronous `fn` as a region of its own, a number above 0 of the caller's choice. Costs nothing worth speaking of. */
export function profileRegion<R>(region: number, fn: () => R): R {
  const before = native.profileRegion(region);
  try {
    return fn();
  } finally {
    native.profileRegion(before);
  }
}
