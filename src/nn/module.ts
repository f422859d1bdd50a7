// Module: parameters, buffers and submodules found by property, named as timm and PyTorch name them.
//
// A property `posEmbed` is `pos_embed` in the state dict, an array `blocks` gives `blocks.0`, `blocks.1`. What is held in a #private
// field belongs to someone else and is not part of the module. Every call is a scope of its own, so that a forward pass frees its
// temporaries as Python would.
import { type Device, type DType, isFloatingPoint, noGrad, Tensor, tidy } from "../torch/index.js";
import { StateDictError } from "./errors.js";

/** Tensors by their state-dict names, in the order of definition. */
export type StateDict = Map<string, Tensor>;

const snakeCase = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
const join = (prefix: string, name: string): string => (prefix === "" ? name : `${prefix}.${name}`);

export abstract class Module {
  /** True while training: dropout, drop path and batch statistics depend on it. */
  training = true;

  /** The computation. Call the module through `call`. */
  // biome-ignore lint/suspicious/noExplicitAny: each module says what it takes and gives
  abstract forward(...args: any[]): unknown;

  /** Runs `forward` in a scope of its own: what it returns survives, its temporaries are freed. */
  call(...args: Parameters<this["forward"]>): ReturnType<this["forward"]> {
    return tidy(() => this.forward(...args) as ReturnType<this["forward"]>);
  }

  /** Submodules by name, in the order of definition. */
  *namedChildren(): IterableIterator<[string, Module]> {
    for (const key of Object.keys(this)) {
      const value = (this as Record<string, unknown>)[key];
      if (value instanceof Module) yield [snakeCase(key), value];
      else if (Array.isArray(value)) {
        for (const [i, each] of value.entries()) if (each instanceof Module) yield [`${snakeCase(key)}.${i}`, each];
      }
    }
  }

  /** This module and all below it, by name; a module reached twice comes once. */
  *namedModules(prefix = "", seen: Set<Module> = new Set()): IterableIterator<[string, Module]> {
    if (seen.has(this)) return;
    seen.add(this);
    yield [prefix, this];
    for (const [name, child] of this.namedChildren()) yield* child.namedModules(join(prefix, name), seen);
  }

  private *namedTensors(roles: readonly string[]): IterableIterator<[string, Tensor]> {
    const seen = new Set<Tensor>();
    for (const [prefix, module] of this.namedModules()) {
      for (const key of Object.keys(module)) {
        const value = (module as unknown as Record<string, unknown>)[key];
        if (!(value instanceof Tensor) || !value.role || !roles.includes(value.role) || seen.has(value)) continue;
        seen.add(value);
        yield [join(prefix, snakeCase(key)), value];
      }
    }
  }

  namedParameters(): IterableIterator<[string, Tensor]> {
    return this.namedTensors(["parameter"]);
  }
  parameters(): Tensor[] {
    return Array.from(this.namedParameters(), ([, tensor]) => tensor);
  }
  namedBuffers(): IterableIterator<[string, Tensor]> {
    return this.namedTensors(["buffer", "temporary"]);
  }
  /** Number of elements of all parameters. */
  get parameterCount(): number {
    return this.parameters().reduce((sum, each) => sum + each.numel, 0);
  }

  /** Parameters and persistent buffers by name: the live tensors, not copies. */
  stateDict(prefix = ""): StateDict {
    const entries = [...this.namedTensors(["parameter", "buffer"])];
    return new Map(entries.map(([name, tensor]) => [join(prefix, name), tensor]));
  }

  /**
   * Copies values in by name.
   *
   * @param options.strict default true: missing and unexpected names are an error that lists them. Shapes must agree in any case.
   * @returns the names that differed (both empty when strict)
   */
  loadStateDict(
    values: ReadonlyMap<string, Tensor>,
    { strict = true }: { strict?: boolean } = {},
  ): { missing: string[]; unexpected: string[] } {
    const own = this.stateDict();
    const missing = [...own.keys()].filter((name) => !values.has(name));
    const unexpected = [...values.keys()].filter((name) => !own.has(name));
    const shapes: string[] = [];
    for (const [name, tensor] of own) {
      const value = values.get(name);
      if (value && value.shape.join() !== tensor.shape.join()) {
        shapes.push(`${name} (given [${value.shape.join(", ")}], expected [${tensor.shape.join(", ")}])`);
      }
    }
    if (shapes.length > 0 || (strict && missing.length + unexpected.length > 0)) {
      throw new StateDictError(strict ? missing : [], strict ? unexpected : [], shapes);
    }
    noGrad(() => {
      for (const [name, tensor] of own) {
        const value = values.get(name);
        if (value) tensor.copy_(value);
      }
    });
    return { missing, unexpected };
  }

  /** Switches this module and all below it to training or back. Returns this. */
  train(mode = true): this {
    for (const [, module] of this.namedModules()) module.training = mode;
    return this;
  }
  /** train(false) */
  eval(): this {
    return this.train(false);
  }

  /** Calls `fn` on every module once, in order of definition, on each after those below it (torch's order). Returns this. */
  apply(fn: (module: Module, name: string) => void): this {
    const seen = new Set<Module>();
    const visit = (module: Module, name: string): void => {
      if (seen.has(module)) return;
      seen.add(module);
      for (const [child, each] of module.namedChildren()) visit(each, join(name, child));
      fn(module, name);
    };
    visit(this, "");
    return this;
  }

  /**
   * Moves all parameters and buffers to a device, or all floating-point ones to a dtype; gradients go with them. Handles stay the same.
   * Returns this.
   */
  to(target: Device | DType): this {
    const floating = target !== "cpu" && !target.startsWith("cuda");
    tidy(() =>
      noGrad(() => {
        for (const [, tensor] of this.namedTensors(["parameter", "buffer", "temporary"])) {
          if (floating && !isFloatingPoint(tensor.dtype)) continue;
          const gradient = tensor.grad;
          tensor.grad = null;
          tensor.setData_(tensor.detach().to(target));
          if (gradient) tensor.grad = gradient.to(target);
        }
      }),
    );
    return this;
  }

  /** Sets whether gradients are recorded for all parameters. Returns this. */
  requiresGrad_(on = true): this {
    for (const each of this.parameters()) each.requiresGrad = on;
    return this;
  }

  /** Forgets all gradients. */
  zeroGrad(): void {
    for (const each of this.parameters()) each.grad = null;
  }

  /** Frees all parameters and buffers. */
  dispose(): void {
    for (const [, tensor] of this.namedTensors(["parameter", "buffer", "temporary"])) tensor.dispose();
  }
}
