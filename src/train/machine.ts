// What a measurement was made on, so that its times mean something.
import { availableParallelism, cpus } from "node:os";
import { cpuFeatures } from "../cpu.js";
import { getNumThreads } from "../torch/index.js";

export interface Machine {
  cpu: string;
  /** Usable cores. */
  cores: number;
  /** Threads of libtorch. */
  threads: number;
  /** Instruction sets that make matrix products fast. */
  features: string[];
}

export function thisMachine(): Machine {
  const cpu = cpus()[0]?.model.trim() || "unknown CPU";
  return { cpu, cores: availableParallelism(), threads: getNumThreads(), features: cpuFeatures() };
}

/** `2 cores of Intel(R) Xeon(R) ... (AVX2, AVX-512), 2 threads` */
export function describeMachine({ cpu, cores, threads, features }: Machine): string {
  const many = (count: number, what: string) => `${count} ${what}${count === 1 ? "" : "s"}`;
  return `${many(cores, "core")} of ${cpu}${features.length > 0 ? ` (${features.join(", ")})` : ""}, ${many(threads, "thread")}`;
}
