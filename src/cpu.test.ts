import { describe, expect, it } from "vitest";
import { cpuFeatures } from "./cpu.js";

describe("cpuFeatures", () => {
  it("reads the instruction sets of /proc/cpuinfo", () => {
    const flags = "fpu avx2 avx512f avx512dq avx512bw avx512vl avx512_bf16 amx_bf16 amx_tile amx_int8";
    expect(cpuFeatures(`processor\t: 0\nflags\t\t: ${flags}\n`)).toEqual(["AVX2", "AVX-512", "AVX-512 bf16", "AMX", "AMX bf16"]);
    expect(cpuFeatures("flags : fpu avx2 avx512f\n")).toEqual(["AVX2"]);
    expect(cpuFeatures("Features\t: fp asimd bf16\n")).toEqual(["NEON", "ARM bf16"]);
    expect(cpuFeatures("")).toEqual([]);
  });
});
