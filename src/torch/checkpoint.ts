// Gradient checkpointing (Chen et al., 2016): what a piece of the forward pass computed on its way is not kept; the backward pass computes the
// piece again from its inputs.
import { autocast, autocastDType } from "./autocast.js";
import { backward, enableGrad } from "./autograd.js";
import { ArgumentError } from "./errors.js";
import { getRngState, keepingRngState, setRngState } from "./generator.js";
import { native } from "./native.js";
import { tidy } from "./scope.js";
import { isTensor, type Tensor } from "./tensor.js";

/** A piece of a forward pass, and what it gives. */
type Piece = (...inputs: Tensor[]) => Tensor | readonly Tensor[];

/**
 * fn(...inputs), of which only the inputs are kept for the backward pass: that calls `fn` again and differentiates the second run. Memory is paid
 * for with one more forward pass of `fn`. As `torch.utils.checkpoint` with `use_reentrant=True`:
 *
 * - Parameters that `fn` uses get their gradients as ever, whether or not an input needs one.
 * - The second run finds the default CPU generator's state, autocast and grad mode as the first did, so that dropout draws the same. `fn` must
 *   depend on nothing else that changes in between, and must not change its inputs.
 * - Other tensors that `fn` uses must live until the backward pass, as parameters do: give those of a scope as inputs. A tensor that `fn` holds and
 *   that was made from the outputs would keep the graph alive until a backward pass.
 * - Gradients come by `backward()` only. `grad()`, and `backward` with `inputs` or `createGraph`, are refused where they would run through it; a
 *   parameter that only `fn` uses is not found among such `inputs`.
 * - On the CPU only: a backward pass on another device fails.
 *
 * Both runs are scopes of their own: temporaries are freed. Where gradients are off, or nothing that `fn` used needs one, it is fn(...inputs). An
 * output that has no history (a parameter, numbers without gradient) comes back as it is.
 *
 * @param fn gives a Tensor or a list of them, as many each time
 */
export function checkpoint<R extends Tensor | readonly Tensor[]>(inputs: readonly Tensor[], fn: (...inputs: Tensor[]) => R): R {
  return tidy((): R => {
    if (!native.isGradEnabled()) return fn(...inputs);
    const state = getRngState();
    // The first run records, although its record is dropped at the end of this scope: only so is it known which outputs have a history, both
    // runs take the same operators, and autocast keeps no cast of a weight that would be cut off from it.
    const given = fn(...inputs);
    const outputs = listOf(given);
    const places = outputs.flatMap((each, i) => (each.isLeaf ? [] : [i]));
    if (places.length === 0) return given;
    const made = native.checkpoint(
      [state, ...inputs],
      places.map((i) => outputs[i]!),
      recomputation(fn, places, autocastDType()),
    );
    for (const [i, place] of places.entries()) outputs[place] = made[i]!;
    return (isTensor(given) ? outputs[0] : outputs) as R;
  });
}

/** What backward calls: `saved` are the generator's state and the inputs; gradients of the outputs in, those of `saved` out. */
function recomputation(fn: Piece, places: readonly number[], dtype: "bfloat16" | "float16" | null) {
  return ([state, ...inputs]: Tensor[], gradients: readonly (Tensor | null)[]): (Tensor | null)[] => {
    const leaves = inputs.map((each) => (each.requiresGrad ? each.detach().requiresGrad_() : each));
    const outputs = keepingRngState(() => {
      setRngState(state!);
      return enableGrad(() =>
        autocast({ enabled: dtype !== null, ...(dtype && { dtype }) }, () => listOf(tidy(() => fn(...leaves)))),
      );
    });
    // An output that the loss does not depend on has no gradient.
    const used = places.flatMap((place, i) => (gradients[i] ? [{ output: outputs[place], gradient: gradients[i] }] : []));
    if (used.some(({ output }) => !output)) {
      throw new ArgumentError("checkpoint: the function gave fewer outputs when it was called again in the backward pass");
    }
    backward(
      used.map(({ output }) => output!),
      { gradients: used.map(({ gradient }) => gradient) },
    );
    return [null, ...leaves.map((leaf, i) => (inputs[i]!.requiresGrad ? leaf.grad : null))];
  };
}

function listOf(given: unknown): Tensor[] {
  const list: unknown[] = Array.isArray(given) ? [...given] : [given];
  if (list.every(isTensor)) return list;
  throw new ArgumentError("checkpoint: the function must give a Tensor or a list of Tensors");
}
