// Gradient checkpointing of blocks that a residual stream goes through.
import { type Module, Residual, type ResidualParts } from "../nn/index.js";
import { checkpoint, type Tensor } from "../torch/index.js";

/** Switches it on or off in a module and all below that can do it: encoders, and the decoders that are made of blocks. */
export function setGradientCheckpointing(module: Module, on = true): void {
  for (const [, each] of module.namedModules()) {
    if ("gradientCheckpointing" in each) each.gradientCheckpointing = on;
  }
}

/** What comes of a block: the stream after it, the one before, in which the sum is made by now, and where they are wanted attention weights. */
export interface ThroughBlock {
  next: Residual;
  before: Residual;
  row?: Tensor;
}

/** Tensors by name, beside a stream's own. */
type Others = Readonly<Record<string, Tensor | undefined>>;
type Run<O extends Others> = (stream: Residual, others: O) => ThroughBlock;

const present = (tensors: object) => Object.entries(tensors).filter(([, tensor]) => tensor !== undefined) as [string, Tensor][];
const byName = (names: readonly string[], tensors: readonly Tensor[]) =>
  Object.fromEntries(names.map((name, i) => [name, tensors[i]!])) as unknown as ResidualParts & Others;

/**
 * run(stream, others), of which only the stream and the others are kept for the backward pass.
 *
 * @param run one block; what else it uses must live until the backward pass, as parameters do
 * @param others tensors that it takes; not by a name of ResidualParts
 * @param options.sum whether the sum in `before` is wanted: keeping it costs memory. Default false: `before` is the stream as it was given.
 */
export function checkpointed<O extends Others>(
  run: Run<O>,
  stream: Residual,
  others: O,
  { sum = false }: { sum?: boolean } = {},
): ThroughBlock {
  const given = present({ ...others, ...stream.parts() });
  const [names, inputs] = [given.map(([name]) => name), given.map(([, tensor]) => tensor)];
  const { sum: before, row, ...next } = throughCheckpoint(run, inputs, names, sum);
  return { next: Residual.of(next), before: before ? new Residual(before) : stream, ...(row && { row }) };
}

/** In a function of its own: what the graph holds on to must not reach the tensors that come out, or the two would keep each other alive. */
function throughCheckpoint<O extends Others>(run: Run<O>, inputs: readonly Tensor[], names: readonly string[], sum: boolean) {
  let outNames: string[] = [];
  const outputs = checkpoint(inputs, (...tensors) => {
    const { x, branch, bias, gamma, keep, ...others } = byName(names, tensors);
    const { next, before, row } = run(Residual.of({ x, branch, bias, gamma, keep }), others as unknown as O);
    const out = present({ ...next.parts(), ...(sum && { sum: before.value() }), row });
    outNames = out.map(([name]) => name);
    return out.map(([, tensor]) => tensor);
  });
  return byName(outNames, outputs);
}
