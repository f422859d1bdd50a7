// Gradient checkpointing of a block that a residual stream goes through.
import { Residual, type ResidualParts } from "../nn/index.js";
import { checkpoint, type Tensor } from "../torch/index.js";

/** What comes of a block: the stream after it, the one before, in which the sum is made by now, and where they are wanted attention weights. */
export interface ThroughBlock {
  next: Residual;
  before: Residual;
  row?: Tensor;
}

/** What goes in and out, by name, as a list. */
type Named = readonly (readonly [string, Tensor])[];

const named = (tensors: object): Named => Object.entries(tensors);
const places = (names: readonly string[], tensors: readonly Tensor[]) =>
  Object.fromEntries(names.map((name, i) => [name, tensors[i]!])) as unknown as ResidualParts &
    Record<string, Tensor | undefined>;

/**
 * run(stream, mask), of which only the stream and the mask are kept for the backward pass.
 *
 * @param run one block; whatever else it uses must live until the backward pass
 * @param sum whether the sum in `before` is wanted: keeping it costs memory. Without it `before` is the stream as it was given.
 */
export function checkpointed(
  run: (stream: Residual, mask: Tensor | undefined) => ThroughBlock,
  stream: Residual,
  mask: Tensor | undefined,
  { sum }: { sum: boolean },
): ThroughBlock {
  const given = named({ ...stream.parts(), ...(mask && { mask }) });
  const made = throughCheckpoint(
    given.map(([, tensor]) => tensor),
    given.map(([name]) => name),
    run,
    sum,
  );
  const { sum: before, row, ...next } = made;
  return { next: Residual.of(next), before: before ? new Residual(before) : stream, ...(row && { row }) };
}

/** In a function of its own: what the graph holds on to must not reach the tensors that come out, or the two would keep each other alive. */
function throughCheckpoint(
  inputs: readonly Tensor[],
  names: readonly string[],
  run: Parameters<typeof checkpointed>[0],
  sum: boolean,
) {
  let outNames: string[] = [];
  const outputs = checkpoint(inputs, (...tensors) => {
    const { mask, ...parts } = places(names, tensors);
    const { next, before, row } = run(Residual.of(parts), mask);
    const out = named({ ...next.parts(), ...(sum && { sum: before.value() }), ...(row && { row }) });
    outNames = out.map(([name]) => name);
    return out.map(([, tensor]) => tensor);
  });
  return places(outNames, outputs);
}
