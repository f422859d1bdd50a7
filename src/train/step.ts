// One optimiser step: forward, backward, clipping, the update, the method's own aftermath (EMA, centre).
import { type RawBatch, toTensors } from "../data/index.js";
import type { Progress, StepResult } from "../methods/index.js";
import { clipGradNorm, clipGradNormPerTensor, NonFiniteGradientError } from "../optim/index.js";
import { autocast, tidy } from "../torch/index.js";
import type { StepGuard } from "./capture.js";
import type { Session } from "./session.js";

/** What one step measured: the loss, the norm of the gradients before clipping, and on logged steps the method's terms and metrics. */
export interface StepNumbers {
  loss: number;
  gradientNorm: number;
  values: Record<string, number>;
}

/** One optimiser step over one or more accumulated batches. */
export function trainStep(
  session: Pick<Session, "recipe" | "method" | "optimizer">,
  guard: StepGuard,
  raws: readonly RawBatch[],
  at: Progress,
): StepNumbers {
  const { recipe, method, optimizer } = session;
  return tidy(() => {
    const measured: StepNumbers = { loss: 0, gradientNorm: 0, values: {} };
    // Each batch in a scope of its own: accumulation is there to save memory.
    for (const [i, raw] of raws.entries()) {
      tidy(() => {
        const before = guard.before();
        const batch = toTensors(raw, method.views);
        const forward = () => method.step(batch, at);
        // What only the forward pass names is gone before the backward pass, the step's peak; the graph holds what that needs.
        const result = tidy(() => (recipe.train.precision === "bfloat16" ? autocast({ dtype: "bfloat16" }, forward) : forward()));
        const loss = result.loss.item();
        if (!Number.isFinite(loss)) guard.fail(describeBroken(loss, result.terms), { batch, at, before });
        (raws.length > 1 ? result.loss.div(raws.length) : result.loss).backward();

        measured.loss += loss / raws.length;
        for (const [name, value] of Object.entries(at.report ? readValues(result) : {})) {
          measured.values[name] = (measured.values[name] ?? 0) + value / raws.length;
        }
        try {
          // The norm is looked at after every batch, clipped after the last: a gradient that is not finite belongs to its batch.
          measured.gradientNorm = clip(i + 1 === raws.length ? recipe.optimizer.clip : { kind: "none" }, optimizer);
        } catch (error) {
          if (!(error instanceof NonFiniteGradientError)) throw error;
          guard.fail(describeGradient(error.names), { batch, at, before });
        }
      });
    }
    method.beforeUpdate?.(at);
    optimizer.step();
    optimizer.zeroGrad();
    method.afterStep(at);
    return measured;
  });
}

/** Terms and metrics as numbers. */
function readValues({ terms, metrics }: StepResult): Record<string, number> {
  return Object.fromEntries(Object.entries({ ...terms, ...metrics }).map(([name, tensor]) => [name, tensor.item()]));
}

/** By the term where it began, if it was one of them. */
function describeBroken(loss: number, terms: StepResult["terms"]): string {
  for (const [name, term] of Object.entries(terms)) {
    const value = term.item();
    if (!Number.isFinite(value)) return `the loss term "${name}" is ${value}`;
  }
  return `the loss is ${loss}`;
}

function describeGradient(names: readonly string[]): string {
  const more = names.length > 3 ? ` and ${names.length - 3} more parameters` : "";
  return names.length === 0
    ? "the common norm of all gradients is not finite"
    : `the gradient of ${names.slice(0, 3).join(", ")}${more} is not finite`;
}

/** Clips as said and returns the norm of all gradients before it. @throws NonFiniteGradientError before anything is changed */
function clip(
  { kind, maxNorm = Number.POSITIVE_INFINITY }: { kind: "none" | "global" | "per-tensor"; maxNorm?: number },
  { parameters, names }: Session["optimizer"],
): number {
  const check = { errorIfNonFinite: true, names };
  const norm =
    kind === "per-tensor"
      ? clipGradNormPerTensor(parameters, maxNorm, check).norm().item()
      : clipGradNorm(parameters, kind === "global" ? maxNorm : Number.POSITIVE_INFINITY, check).item();
  if (!Number.isFinite(norm)) throw new NonFiniteGradientError([]);
  return norm;
}
