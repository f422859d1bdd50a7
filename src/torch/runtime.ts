// The library as a whole: version, threads, memory of the allocator, operator libraries.
import { readFileSync } from "node:fs";
import { type AllocatorStats, libtorch, native, type VersionInfo } from "./native.js";

/** Version, CPU capability and build configuration of the libtorch in use. */
export function versionInfo(): VersionInfo & { root: string; source: string } {
  return { ...native.versionInfo(), root: libtorch.root, source: libtorch.source };
}

/** Threads that operators use. Default: the usable cores, or TESSERA_THREADS, or OMP_NUM_THREADS. */
export function getNumThreads(): number {
  return native.getThreads();
}

export function setNumThreads(count: number): void {
  native.setThreads(count);
}

/**
 * True where the CPU multiplies bfloat16 by itself (AVX-512 BF16, AMX, Arm's BF16). Elsewhere it is converted back and forth, and slower than float32: by
 * a tenth with AVX2, where it saves memory nevertheless.
 */
export function hasFastBfloat16(): boolean {
  try {
    return /\b(avx512_bf16|amx_bf16|bf16)\b/.test(readFileSync("/proc/cpuinfo", "utf8"));
  } catch {
    return false;
  }
}

/** Makes operators refuse algorithms whose result is not reproducible. */
export function useDeterministicAlgorithms(on: boolean): void {
  native.setDeterministic(on);
}

/** Loads a shared library that registers operators, such as torchvision's. */
export function loadLibrary(path: string): void {
  native.loadLibrary(path);
}

export interface AllocatorOptions {
  /** Keep freed blocks for the next allocation. Default true; TESSERA_ALLOCATOR=system turns it off from outside. */
  caching?: boolean;
  /** At most this many bytes wait for reuse. Default a quarter of the machine's memory. */
  cacheLimit?: number;
  /** Allocations beyond this many bytes in use are refused with OutOfMemoryError. Default 95 % of the machine's (or container's) memory. */
  memoryLimit?: number;
}

/** Changes how the CPU allocator works from now on. */
export function configureAllocator(options: AllocatorOptions): void {
  const { caching = native.allocatorStats().caching, cacheLimit = 0, memoryLimit = 0 } = options;
  native.configureAllocator(caching, cacheLimit, memoryLimit);
}

/** Gives cached blocks back to the system. */
export function emptyCache(): void {
  native.emptyCache();
}

export function allocatorStats(): AllocatorStats {
  return native.allocatorStats();
}

/** Makes `peakBytes` start again from what is in use now. */
export function resetPeakMemory(): void {
  native.resetPeak();
}

/** Runs `fn` and tells how many calls went to libtorch and how long they took inside it; for benchmarks. */
export function timeInside<R>(fn: () => R): { result: R; calls: number; milliseconds: number } {
  native.setTiming(true);
  try {
    const result = fn();
    return { result, ...native.callStats() };
  } finally {
    native.setTiming(false);
  }
}
