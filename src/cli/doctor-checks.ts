// What `tessera doctor` looks at. Each check says what it found and, where something is missing, what to do about it.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { availableParallelism, cpus, totalmem } from "node:os";
import { join } from "node:path";
import { buildFor } from "../../scripts/addon-path.mjs";
import { cpuFeatures } from "../cpu.js";
import { type FoundLibtorch, libtorchFinder } from "./project.js";

export interface Check {
  name: string;
  /** `missing`: needed and not there. `note`: works, but could be better, or is needed only for some things. */
  status: "ok" | "note" | "missing";
  /** What was found. */
  found: string;
  /** What to do. */
  advice?: string;
  /** The same for programs. */
  details?: Record<string, unknown>;
}

type Torch = typeof import("../torch/index.js");

/** Everything, in the order in which one thing stands on another. */
export async function runChecks(env: NodeJS.ProcessEnv = process.env): Promise<Check[]> {
  const checks: Check[] = [checkNode()];
  const libtorch = await checkLibtorch(env);
  const addon = checkAddon(env, libtorch.found !== null);
  checks.push(checkCompiler(env, addon.status === "ok"), libtorch.check, addon);
  const engine = await loadEngine(addon.status === "ok");
  checks.push(engine.check, checkCpu(engine.torch));
  if (engine.torch) checks.push(checkThreads(engine.torch, env), checkBfloat16(engine.torch), checkAllocator(engine.torch));
  checks.push(checkCuda(libtorch.found, engine.torch), await checkSharp(), checkFashionMnist(env));
  return checks;
}

function checkNode(): Check {
  const { node } = process.versions;
  const details = { version: node, path: process.execPath };
  const [major = 0, minor = 0] = node.split(".").map(Number);
  if (major > 20 || (major === 20 && minor >= 9)) return { name: "node", status: "ok", found: node, details };
  const advice = "install Node 20.9 or newer: https://nodejs.org/en/download";
  return { name: "node", status: "missing", found: `${node}, which is too old`, advice, details };
}

function checkCompiler(env: NodeJS.ProcessEnv, built: boolean): Check {
  const program = env.CXX || "g++";
  const asked = spawnSync(program, ["--version"], { encoding: "utf8" });
  const version = asked.status === 0 ? (asked.stdout.split("\n")[0] ?? "").trim() : undefined;
  const details = { program, version: version ?? null };
  if (version) return { name: "compiler", status: "ok", found: version, details };
  const found = `${program} is not on this machine${built ? " (only needed to build again)" : ""}`;
  const advice = env.CXX ? "set CXX to a C++20 compiler, or unset it" : "sudo apt-get install g++";
  return { name: "compiler", status: built ? "note" : "missing", found, advice, details };
}

async function checkLibtorch(env: NodeJS.ProcessEnv): Promise<{ check: Check; found: FoundLibtorch | null }> {
  const name = "libtorch";
  try {
    const { findLibtorch, describe } = await libtorchFinder();
    const found = findLibtorch(env);
    if (found) {
      const { version, source, root, lib, cuda } = found;
      return {
        found,
        check: {
          name,
          status: "ok",
          found: describe(found).replace(/^libtorch /, ""),
          details: { version, source, root, lib, cuda },
        },
      };
    }
    const advice = "make setup gets one; or set LIBTORCH to a folder with libtorch's lib/ and include/";
    return { found: null, check: { name, status: "missing", found: "none", advice, details: {} } };
  } catch (error) {
    const [found, advice] = splitAdvice(error, "set it to a folder with libtorch's lib/ and include/, or unset it");
    return { found: null, check: { name, status: "missing", found, advice, details: {} } };
  }
}

function checkAddon(env: NodeJS.ProcessEnv, hasLibtorch: boolean): Check {
  const name = "addon";
  try {
    const { addon, libtorch, builtAt } = buildFor(env);
    const details = { path: addon, libtorch: libtorch.version, builtAt };
    return { name, status: "ok", found: `built for libtorch ${libtorch.version} on ${builtAt.slice(0, 10)}`, details };
  } catch (error) {
    const [found, advice] = splitAdvice(error, "make setup");
    const then = hasLibtorch ? advice : `${advice}, once libtorch is there`;
    return { name, status: "missing", found: found.replace(/^the native addon /, ""), advice: then, details: {} };
  }
}

/** The scripts' sentences end in `: what to do.` */
function splitAdvice(error: unknown, otherwise: string): [string, string] {
  const message = (error as Error).message.replace(/\.$/, "");
  const at = message.lastIndexOf(": ");
  return at < 0 ? [message, otherwise] : [message.slice(0, at), message.slice(at + 2).replace(/^run /, "")];
}

async function loadEngine(built: boolean): Promise<{ check: Check; torch: Torch | null }> {
  const name = "engine";
  const advice = "make setup";
  if (!built) return { torch: null, check: { name, status: "missing", found: "not loaded, because there is no addon", advice } };
  try {
    const torch = await import("../torch/index.js");
    const info = torch.versionInfo();
    const details = { torch: info.torch, parallel: info.parallel, mkldnn: info.mkldnn, mkl: info.mkl };
    const libraries = [info.mkldnn && "oneDNN", info.mkl && "MKL"].filter(Boolean).join(" and ") || "no oneDNN and no MKL";
    return { torch, check: { name, status: "ok", found: `loads libtorch ${info.torch} with ${libraries}`, details } };
  } catch (error) {
    const [found] = (error as Error).message.split("; run make setup");
    return { torch: null, check: { name, status: "missing", found: found ?? "", advice } };
  }
}

function checkCpu(torch: Torch | null): Check {
  const model = cpus()[0]?.model.trim() || "unknown model";
  const has = cpuFeatures();
  const capability = torch?.versionInfo().cpuCapability ?? null;
  const details = { model, features: has, capability, memoryBytes: totalmem() };
  const found = `${model}: ${has.join(", ") || "no vector units known here"}${capability ? `; libtorch uses ${capability}` : ""}`;
  if (capability && has.includes("AVX-512") && !/avx512/i.test(capability)) {
    const advice = "ATEN_CPU_CAPABILITY=avx512 may be faster on this machine";
    return { name: "cpu", status: "note", found, advice, details };
  }
  return { name: "cpu", status: "ok", found, details };
}

function checkThreads(torch: Torch, env: NodeJS.ProcessEnv): Check {
  const threads = torch.getNumThreads();
  const cores = availableParallelism();
  const details = { threads, cores };
  const found = `${threads} of ${cores} usable cores`;
  if (threads === cores) return { name: "threads", status: "ok", found, details };
  const variable = env.TESSERA_THREADS ? "TESSERA_THREADS" : env.OMP_NUM_THREADS ? "OMP_NUM_THREADS" : undefined;
  const advice = variable
    ? `${variable} sets this; unset it to use all cores`
    : "this libtorch does not use all cores; TESSERA_THREADS sets how many";
  return {
    name: "threads",
    status: "note",
    found: threads > cores ? `${threads} for ${cores} usable cores` : found,
    advice,
    details,
  };
}

function checkBfloat16(torch: Torch): Check {
  const rates = { float32: matmulRate(torch, "float32"), bfloat16: matmulRate(torch, "bfloat16") };
  const ratio = rates.bfloat16 / rates.float32;
  const details = { ...rates, ratio };
  const found = `matrix products at ${rates.bfloat16.toFixed(0)} GFLOP/s, ${rates.float32.toFixed(0)} in float32 (${ratio.toFixed(1)} times)`;
  if (ratio >= 1.2) return { name: "bfloat16", status: "ok", found, details };
  const advice =
    ratio >= 0.8
      ? 'train.precision "bfloat16" saves memory on this machine, and no time in the products'
      : 'train.precision "float32" is the better choice on this machine';
  return { name: "bfloat16", status: "note", found, advice, details };
}

/** GFLOP/s of a square matrix product, the best of the repetitions that fit in a fifth of a second. */
function matmulRate(torch: Torch, dtype: "float32" | "bfloat16"): number {
  const size = 768;
  return torch.tidy(() => {
    const a = torch.randn([size, size]).to(dtype);
    const b = torch.randn([size, size]).to(dtype);
    let best = Number.POSITIVE_INFINITY;
    const end = performance.now() + 200;
    for (let i = 0; i < 3 || performance.now() < end; i++) {
      const start = performance.now();
      a.matmul(b).dispose();
      const took = performance.now() - start;
      if (i > 0) best = Math.min(best, took); // the first one warms up
    }
    return (2 * size ** 3) / (best * 1e6);
  });
}

function checkAllocator(torch: Torch): Check {
  const { caching, cacheLimit, memoryLimit } = torch.allocatorStats();
  const gib = (bytes: number) => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
  const limit = memoryLimit > 0 && Number.isFinite(memoryLimit) ? `, at most ${gib(memoryLimit)} in use` : "";
  const found = caching ? `caching, up to ${gib(cacheLimit)} kept${limit}` : `the system's${limit}`;
  return { name: "allocator", status: "ok", found, details: { caching, cacheLimit, memoryLimit } };
}

function checkCuda(libtorch: FoundLibtorch | null, torch: Torch | null): Check {
  const driver = existsSync("/proc/driver/nvidia/version") || existsSync("/dev/nvidia0");
  const usable = torch?.versionInfo().cuda ?? false;
  const details = { driver, libtorch: libtorch?.cuda ?? false, usable };
  if (usable) return { name: "cuda", status: "ok", found: "usable", details };
  const reason = driver
    ? libtorch?.cuda
      ? "there is an NVIDIA driver, but libtorch finds no usable device"
      : "there is an NVIDIA driver, but this libtorch is built without CUDA"
    : `there is no NVIDIA driver${libtorch?.cuda ? "" : ", and this libtorch is built without CUDA"}`;
  if (!driver) return { name: "cuda", status: "ok", found: `not used: ${reason}`, details };
  const advice = libtorch?.cuda
    ? "look at nvidia-smi and at the driver's version"
    : "set LIBTORCH to a libtorch with CUDA and run make setup";
  return { name: "cuda", status: "note", found: `not used: ${reason}`, advice, details };
}

async function checkSharp(): Promise<Check> {
  try {
    const { default: sharp } = await import("sharp");
    const { sharp: version, vips } = sharp.versions;
    return { name: "sharp", status: "ok", found: `${version} with libvips ${vips}`, details: { version, vips } };
  } catch (error) {
    const found = `cannot be loaded: ${(error as Error).message.split("\n")[0]}`;
    return { name: "sharp", status: "missing", found, advice: "npm ci", details: {} };
  }
}

const idxFiles = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];

function checkFashionMnist(env: NodeJS.ProcessEnv): Check {
  const name = "fashion-mnist";
  const folder = env.FASHION_MNIST || "/usr/share/datasets/fashion-mnist";
  const missing = idxFiles.filter((file) => !existsSync(join(folder, file)) && !existsSync(join(folder, `${file}.gz`)));
  const details = { folder, missing };
  if (missing.length === 0) return { name, status: "ok", found: folder, details };
  const found = env.FASHION_MNIST
    ? `FASHION_MNIST is ${folder}, which lacks ${missing.join(", ")}`
    : "not on this machine (only the demo needs it)";
  const advice = "sudo apt-get install dataset-fashion-mnist, or set FASHION_MNIST to a folder with its four IDX files";
  return { name, status: "note", found, advice, details };
}
