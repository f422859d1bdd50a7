// Sources of random numbers whose state can be saved and set.
import type { Device } from "./dtype.js";
import { native } from "./native.js";
import type { Tensor } from "./tensor.js";

/** A random number generator of its own, for operators that take a `generator`. */
export class Generator {
  constructor(seed?: number | bigint, device: Device = "cpu") {
    native.attachGenerator(this, device);
    if (seed !== undefined) this.manualSeed(seed);
  }

  /** Starts again from `seed` (an integer). Returns this. */
  manualSeed(seed: number | bigint): this {
    native.generatorSeed(this, seed);
    return this;
  }

  /** The whole state as uint8 [n]; its length depends on the libtorch version. */
  getState(): Tensor {
    return native.generatorGetState(this);
  }

  setState(state: Tensor): void {
    native.generatorSetState(this, state);
  }
}

/** Seeds the default generators of all devices: initialisation and dropout draw from them. */
export function manualSeed(seed: number | bigint): void {
  native.generatorSeed(null, seed);
}

/** State of the default CPU generator, uint8 [n]. */
export function getRngState(): Tensor {
  return native.generatorGetState(null);
}

export function setRngState(state: Tensor): void {
  native.generatorSetState(null, state);
}

/** Runs the synchronous `fn`; whatever it draws from the default CPU generator, the generator is afterwards as it was. */
export function keepingRngState<R>(fn: () => R): R {
  const before = getRngState();
  try {
    return fn();
  } finally {
    setRngState(before);
    before.dispose();
  }
}
