// Loads the native bridge. This is the only file that knows where the addon is and what it exports.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { type BuildRecord, buildFor } from "../../scripts/addon-path.mjs";
import type { DType, TypedArray } from "./dtype.js";
import { ArgumentError, EngineError, OperatorError, OutOfMemoryError, ScopeError, UseAfterDisposeError } from "./errors.js";
import type { Generator } from "./generator.js";
import type { Tensor } from "./tensor.js";

/** What an operator takes from JavaScript; the bridge checks each value against the operator's own schema. */
export type OpArgument = Tensor | Generator | number | bigint | boolean | string | null | undefined | readonly OpArgument[];

/** Handles and bytes that are alive now. */
export interface MemoryStats {
  /** Tensor handles not yet disposed. */
  handles: number;
  /** Bytes of the distinct storages behind them. */
  bytes: number;
  /** Distinct storages behind them. */
  storages: number;
  /** Handles made since the start. */
  created: number;
  /** Scopes that are open. */
  scopes: number;
  /** Bytes V8 was told of: storages of handles that no scope owns. */
  reportedBytes: number;
}

/** What the CPU allocator did so far; sizes in bytes. */
export interface AllocatorStats {
  caching: boolean;
  /** Whether large blocks ask for huge pages. */
  hugePages: boolean;
  bytesInUse: number;
  peakBytes: number;
  bytesCached: number;
  cacheLimit: number;
  memoryLimit: number;
  requests: number;
  hits: number;
}

export interface Schema {
  name: string;
  text: string;
  /** `fixedLength`: a list of this length may be given as one number; 0 for everything else. */
  arguments: { name: string; type: string; hasDefault: boolean; fixedLength: number; supported: boolean }[];
}

export interface VersionInfo {
  torch: string;
  cpuCapability: string;
  mkldnn: boolean;
  mkl: boolean;
  cuda: boolean;
  parallel: string;
  config: string;
}

interface Native {
  setClasses(tensor: new () => Tensor, errors: (new (message: string) => Error)[]): void;
  scopeBegin(): number;
  scopeEnd(depth: number, kept?: Tensor[]): void;
  keep(tensor: Tensor): Tensor;
  dispose(tensor: Tensor): void;
  isDisposed(tensor: Tensor): boolean;
  isTensor(value: unknown): value is Tensor;
  alias(tensor: Tensor): Tensor;
  shape(tensor: Tensor): number[];
  stride(tensor: Tensor): number[];
  numel(tensor: Tensor): number;
  dtype(tensor: Tensor): DType;
  device(tensor: Tensor): string;
  isContiguous(tensor: Tensor): boolean;
  dataPointer(tensor: Tensor): bigint;
  fromBytes(data: TypedArray, shape: readonly number[], dtype: DType): Tensor;
  copyBytes(tensor: Tensor, target: TypedArray): void;
  memoryStats(): MemoryStats;
  attachGenerator(target: object, device: string): void;
  resolveOperator(name: string): number;
  call(id: number, ...args: OpArgument[]): unknown;
  callNamed(id: number, args: readonly OpArgument[], named: Readonly<Record<string, OpArgument>>): unknown;
  schemaOf(id: number): Schema;
  refusal(name: string): string | null;
  listOperators(all: boolean): string[];
  setTiming(on: boolean): void;
  callStats(): { calls: number; milliseconds: number };
  profileStart(shapesOf: readonly string[]): void;
  profileRegion(region: number): number;
  profileStop(): { name: string; shapes: string; region: number; backward: boolean; calls: number; wall: number; cpu: number }[];
  backward(
    outputs: readonly Tensor[],
    gradients: readonly (Tensor | null)[] | null,
    retainGraph: boolean,
    createGraph: boolean,
    inputs: readonly Tensor[] | null,
  ): void;
  grad(
    outputs: readonly Tensor[],
    inputs: readonly Tensor[],
    gradients: readonly (Tensor | null)[] | null,
    retainGraph: boolean,
    createGraph: boolean,
    allowUnused: boolean,
  ): (Tensor | null)[];
  checkpoint(
    inputs: readonly Tensor[],
    outputs: readonly Tensor[],
    recompute: (inputs: Tensor[], gradients: (Tensor | null)[]) => (Tensor | null)[],
  ): Tensor[];
  gradOf(tensor: Tensor): Tensor | null;
  setGrad(tensor: Tensor, value: Tensor | null): void;
  requiresGrad(tensor: Tensor): boolean;
  setRequiresGrad(tensor: Tensor, on: boolean): void;
  isLeaf(tensor: Tensor): boolean;
  isGradEnabled(): boolean;
  setGradEnabled(on: boolean): boolean;
  autocastEnter(device: string, enabled: boolean, dtype: DType): [boolean, DType];
  autocastExit(device: string, enabled: boolean, dtype: DType): void;
  autocastEnabled(device: string): boolean;
  generatorSeed(generator: Generator | null, seed: number | bigint): void;
  generatorGetState(generator: Generator | null): Tensor;
  generatorSetState(generator: Generator | null, state: Tensor): void;
  versionInfo(): VersionInfo;
  getThreads(): number;
  setThreads(count: number): void;
  setDeterministic(on: boolean): void;
  loadLibrary(path: string): void;
  /** Whether products of float32 matrices are those of native/matmul.cpp where they can be. */
  useOwnProducts(on: boolean): void;
  hasOwnProducts(half: boolean): boolean;
  widensHalves(): boolean;
  configureAllocator(caching: boolean, cacheLimit: number, memoryLimit: number): void;
  emptyCache(): void;
  resetPeak(): void;
  allocatorStats(): AllocatorStats;
}

// Debian's 1.13 chooses AVX2 even where AVX-512 is there, which costs a fifth of its fp32 speed; it reads this variable when it loads.
function preferAvx512(version: string): void {
  if (!version.startsWith("1.") || process.env.ATEN_CPU_CAPABILITY || process.arch !== "x64") return;
  try {
    if (/\bavx512f\b.*\bavx512vl\b/s.test(readFileSync("/proc/cpuinfo", "utf8"))) process.env.ATEN_CPU_CAPABILITY = "avx512";
  } catch {
    // No /proc: libtorch's own choice stands.
  }
}

// OpenMP's threads spin at the end of each parallel region in the hope of more work, 300,000 times by default. Where another process or the
// data workers want the core, the one that computes then waits for the one that spins. Without any spinning each region begins with a thread
// that wakes up, which on a virtual machine takes up to a tenth of a step. 5,000 times are some tenths of a millisecond at most
// (bench/threads.mjs).
function spinBrieflyBetweenRegions(): void {
  if (!process.env.OMP_WAIT_POLICY) process.env.GOMP_SPINCOUNT ??= "5000";
}

function load(): { native: Native; build: BuildRecord } {
  let build: BuildRecord;
  try {
    build = buildFor(process.env);
  } catch (error) {
    throw new EngineError((error as Error).message, { cause: error });
  }
  preferAvx512(build.libtorch.version);
  spinBrieflyBetweenRegions();
  try {
    return { native: createRequire(import.meta.url)(build.addon) as Native, build };
  } catch (error) {
    throw new EngineError(`the engine ${build.addon} cannot be loaded (${(error as Error).message}); run make setup`, {
      cause: error,
    });
  }
}

const loaded = load();

/** The bridge's functions. */
export const native: Native = loaded.native;

/** Which libtorch is in use, and where it came from. */
export const libtorch = loaded.build.libtorch;

/** Called once by tensor.ts: the bridge makes instances of this class, and throws these errors in the order of its ErrorKind. */
export function registerTensorClass(tensor: new () => Tensor): void {
  native.setClasses(tensor, [OperatorError, ArgumentError, UseAfterDisposeError, OutOfMemoryError, ScopeError]);
}

const threads = Number(process.env.TESSERA_THREADS ?? process.env.OMP_NUM_THREADS ?? availableParallelism());
if (Number.isInteger(threads) && threads > 0) native.setThreads(threads);
if (process.env.TESSERA_ALLOCATOR === "system") native.configureAllocator(false, 0, 0);
