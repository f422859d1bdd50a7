// What all optimisers share: groups, rates that a schedule sets before each step, state by parameter name, and one step in a scope of its
// own. Each optimiser adds only its update rule.
import { keep, noGrad, type Tensor, tidy, zerosLike } from "../torch/index.js";
import { OptimizerError } from "./errors.js";
import type { ParameterGroup } from "./groups.js";

/** What a resume needs. The tensors are the live ones, not copies; the rest goes into JSON. */
export interface OptimizerState {
  /** `<parameter>.<slot>`, for example `blocks.0.attn.qkv.weight.exp_avg`. */
  tensors: Map<string, Tensor>;
  scalars: {
    kind: string;
    lr: number;
    weightDecay: number;
    /** Steps each parameter has taken; one that never had a gradient is missing. */
    steps: Record<string, number>;
  };
}

/** A parameter that has a gradient in this step. */
export interface Update {
  readonly name: string;
  readonly parameter: Tensor;
  readonly gradient: Tensor;
  readonly state: ParameterState;
}

/** What an optimiser remembers about one parameter. */
export interface ParameterState {
  /** Steps taken, with the current one. */
  step: number;
  readonly tensors: Map<string, Tensor>;
}

export interface OptimizerConfig {
  /** Base learning rate, multiplied by each group's lrScale. */
  lr: number;
  /** Base weight decay, multiplied by each group's decayScale. */
  weightDecay?: number;
}

export abstract class Optimizer {
  /** Base learning rate; a schedule sets it before each step. */
  lr: number;
  /** Base weight decay; a schedule may set it before each step. */
  weightDecay: number;
  readonly groups: readonly ParameterGroup[];
  /** What a saved state says it belongs to. */
  protected abstract readonly kind: string;
  /** Names of the tensors kept for each parameter. */
  protected abstract readonly slots: readonly string[];
  #states = new Map<Tensor, ParameterState>();
  readonly #byName = new Map<string, Tensor>();

  constructor(groups: readonly ParameterGroup[], { lr, weightDecay = 0 }: OptimizerConfig) {
    this.groups = groups;
    this.lr = lr;
    this.weightDecay = weightDecay;
    const seen = new Set<Tensor>();
    for (const { parameters, names } of groups) {
      if (parameters.length !== names.length) {
        throw new OptimizerError(`a parameter group has ${parameters.length} parameters but ${names.length} names`);
      }
      for (const [i, parameter] of parameters.entries()) {
        const name = names[i]!;
        if (this.#byName.has(name)) throw new OptimizerError(`two parameters are named ${name}; names must be unique`);
        if (seen.has(parameter)) throw new OptimizerError(`the parameter ${name} is in the groups twice`);
        seen.add(parameter);
        this.#byName.set(name, parameter);
      }
    }
    if (seen.size === 0) throw new OptimizerError("the optimiser was given no parameter; are all of them frozen?");
  }

  /** All parameters, group by group. */
  get parameters(): Tensor[] {
    return this.groups.flatMap((group) => [...group.parameters]);
  }
  /** Their names, in the same order. */
  get names(): string[] {
    return this.groups.flatMap((group) => [...group.names]);
  }

  /**
   * One step with the current rates. Parameters without a gradient are left alone: no decay, no momentum, no step counted. Leaves no
   * handle behind except new state, which lives outside all scopes.
   *
   * @throws OptimizerError when a rate is negative or not a number
   */
  step(): void {
    for (const [key, value] of [["lr", this.lr] as const, ["weightDecay", this.weightDecay] as const]) {
      if (!(value >= 0) || value === Number.POSITIVE_INFINITY) {
        throw new OptimizerError(`${key} must be a finite number of at least 0, but is ${value}`);
      }
    }
    tidy(() =>
      noGrad(() => {
        for (const { parameters, names, lrScale = 1, decayScale = 1 } of this.groups) {
          const updates: Update[] = [];
          for (const [i, parameter] of parameters.entries()) {
            const gradient = parameter.grad;
            if (gradient) updates.push({ name: names[i]!, parameter, gradient, state: this.#stateOf(parameter) });
          }
          for (const { state } of updates) state.step++;
          if (updates.length > 0) this.update(updates, this.lr * lrScale, this.weightDecay * decayScale);
        }
      }),
    );
  }

  /** The update rule for parameters of one group; runs without history in a scope of its own. */
  protected abstract update(updates: readonly Update[], lr: number, weightDecay: number): void;

  /** Forgets the gradients of all parameters. */
  zeroGrad(): void {
    for (const { parameters } of this.groups) for (const each of parameters) each.grad = null;
  }

  stateDict(): OptimizerState {
    const tensors = new Map<string, Tensor>();
    const steps: Record<string, number> = {};
    for (const [name, parameter] of this.#byName) {
      const state = this.#states.get(parameter);
      if (!state) continue;
      steps[name] = state.step;
      for (const [slot, tensor] of state.tensors) tensors.set(`${name}.${slot}`, tensor);
    }
    return { tensors, scalars: { kind: this.kind, lr: this.lr, weightDecay: this.weightDecay, steps } };
  }

  /**
   * Continues from a saved state: copies the tensors in, and takes rates and step counts over. Nothing is changed when it does not fit.
   *
   * @throws OptimizerError that names what does not fit
   */
  loadStateDict({ tensors, scalars }: OptimizerState): void {
    const { kind, lr, weightDecay, steps } = scalars;
    if (kind !== this.kind) {
      throw new OptimizerError(`the state is of ${kind}, but the optimiser is ${this.kind}`);
    }
    const unknown = Object.keys(steps).filter((name) => !this.#byName.has(name));
    const known = Object.keys(steps).filter((name) => this.#byName.has(name));
    const owned = new Set(known.flatMap((name) => this.slots.map((slot) => `${name}.${slot}`)));
    unknown.push(...[...tensors.keys()].filter((name) => !owned.has(name)));
    const missing = [...owned].filter((name) => !tensors.has(name));
    const shapes: string[] = [];
    for (const name of known) {
      const expected = this.#byName.get(name)!.shape.join(", ");
      for (const slot of this.slots) {
        const given = tensors.get(`${name}.${slot}`)?.shape.join(", ");
        if (given !== undefined && given !== expected) {
          shapes.push(`${name}.${slot} (given [${given}], expected [${expected}])`);
        }
      }
    }
    const wrong = [list("unknown", unknown), list("missing", missing), list("of another shape", shapes)].filter(Boolean);
    if (wrong.length > 0) throw new OptimizerError(`the state does not fit the optimiser's parameters; ${wrong.join("; ")}`);

    // The state may be this optimiser's own, so the old tensors live until all are copied.
    const loaded = new Map<Tensor, ParameterState>();
    tidy(() =>
      noGrad(() => {
        for (const [name, step] of Object.entries(steps)) {
          const parameter = this.#byName.get(name)!;
          const state: ParameterState = { step, tensors: new Map() };
          for (const slot of this.slots) this.slot({ parameter, state }, slot).copy_(tensors.get(`${name}.${slot}`)!);
          loaded.set(parameter, state);
        }
      }),
    );
    this.dispose();
    this.#states = loaded;
    this.lr = lr;
    this.weightDecay = weightDecay;
  }

  /** Frees all state. The optimiser then starts afresh. */
  dispose(): void {
    for (const { tensors } of this.#states.values()) for (const each of tensors.values()) each.dispose();
    this.#states.clear();
  }

  /** A tensor kept for a parameter; zeros of its shape, dtype and device at first. */
  protected slot({ parameter, state }: Pick<Update, "parameter" | "state">, name: string): Tensor {
    let tensor = state.tensors.get(name);
    if (!tensor) {
      tensor = keep(zerosLike(parameter));
      state.tensors.set(name, tensor);
    }
    return tensor;
  }

  #stateOf(parameter: Tensor): ParameterState {
    let state = this.#states.get(parameter);
    if (!state) {
      state = { step: 0, tensors: new Map() };
      this.#states.set(parameter, state);
    }
    return state;
  }
}

function list(title: string, names: readonly string[]): string {
  if (names.length === 0) return "";
  return `${title}: ${names.slice(0, 20).join(", ")}${names.length > 20 ? `, and ${names.length - 20} more` : ""}`;
}
