// What the processor can do, as the system says it. Known by name only where it matters to the speed of matrix products.
import { readFileSync } from "node:fs";

/** Instruction sets that make matrix products fast, by their names in /proc/cpuinfo. */
const features: Readonly<Record<string, readonly string[]>> = {
  AVX2: ["avx2"],
  "AVX-512": ["avx512f", "avx512bw", "avx512vl", "avx512dq"],
  "AVX-512 bf16": ["avx512_bf16"],
  AMX: ["amx_tile"],
  "AMX bf16": ["amx_bf16"],
  NEON: ["asimd"],
  "ARM bf16": ["bf16"],
};

/** The CPU's instruction sets that matter here; none where there is no /proc/cpuinfo. */
export function cpuFeatures(text = cpuinfo()): string[] {
  const flags = new Set((/^(?:flags|Features)\s*:(.*)$/m.exec(text)?.[1] ?? "").trim().split(/\s+/));
  return Object.entries(features).flatMap(([name, needed]) => (needed.every((flag) => flags.has(flag)) ? [name] : []));
}

function cpuinfo(): string {
  try {
    return readFileSync("/proc/cpuinfo", "utf8");
  } catch {
    return "";
  }
}
