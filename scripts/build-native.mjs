/**
 * Compiles native/*.cpp against the libtorch found into build/<stamp>/tessera.node, only when something it is made from changed:
 * the libtorch, the sources, the compiler or the flags. Builds for several libtorch stand side by side, so switching back is free.
 * `node scripts/build-native.mjs` builds by hand; addon-path.mjs reads what is written here.
 */
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";
import { availableParallelism, freemem } from "node:os";
import { join } from "node:path";
import { buildFor, choiceOf, fingerprint } from "./addon-path.mjs";
import { describe, findLibtorch } from "./libtorch.mjs";
import { digest, isProgram, main, projectRoot, run, SetupError, say, since, sweep, writeAtomically } from "./shared.mjs";

const BUILD = join(projectRoot, "build");
const NATIVE = join(projectRoot, "native");
const NODE_HEADERS = join(projectRoot, "node_modules", "node-api-headers", "include");

/** One compiler process at its peak; ATen's headers are large. */
const BYTES_PER_JOB = 1.2e9;

/** Old builds are kept this long, for programs that still run on them. */
const KEEP_MS = 24 * 3600 * 1000;

/** The system's headers are searched anyway, and naming them would change the order. */
const OWN_FOLDERS = new Set(["/usr/include", "/usr/local/include"]);

/**
 * Compiler flags for a libtorch. Its headers need C++20 from 2.13 and accept it in 1.13 (g++ 12); NDEBUG is how libtorch itself is
 * compiled. They are given as system headers so that warnings are about our code only.
 *
 * @param {boolean} [openMp] whether the compiler's OpenMP is libtorch's, GNU's: at::parallel_for is one thread without. It is not linked with,
 *   because the runtime that libtorch brings is the one that has its threads.
 */
export function compileFlags(libtorch, openMp = true) {
  const include = libtorch.include.filter((folder) => !OWN_FOLDERS.has(folder)).flatMap((folder) => ["-isystem", folder]);
  return [
    ...["-std=c++20", "-O2", "-DNDEBUG", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-psabi"],
    ...(openMp ? ["-fopenmp"] : []),
    `-D_GLIBCXX_USE_CXX11_ABI=${libtorch.cxx11Abi}`,
    ...(libtorch.cuda ? ["-DTESSERA_WITH_CUDA"] : []),
    ...["-isystem", NODE_HEADERS],
    ...include,
  ];
}

/**
 * Linker flags. Nothing refers to libtorch_cuda's symbols, it registers its kernels when it is loaded, so a linker left to itself
 * drops it. DT_RPATH (not RUNPATH) goes before LD_LIBRARY_PATH: the library linked with is the library loaded.
 */
export function linkFlags(libtorch) {
  return [
    ...["-shared", `-L${libtorch.lib}`, "-Wl,--no-as-needed", "-ltorch_cpu", "-lc10", "-ltorch"],
    ...(libtorch.cuda ? ["-ltorch_cuda", "-lc10_cuda"] : []),
    ...["-Wl,--disable-new-dtags", `-Wl,-rpath,${libtorch.lib}`],
  ];
}

/**
 * Builds the addon when needed and returns its record (see addon-path.d.mts).
 *
 * @param {import("./libtorch.mjs").Libtorch} libtorch
 */
export async function buildNative(libtorch, env = process.env) {
  const sources = readSources();
  const compiler = compilerOf(env);
  const parts = [
    compiler.version,
    ...compileFlags(libtorch, compiler.openMp),
    ...linkFlags(libtorch),
    libtorch.version,
    fingerprint(libtorch.lib),
  ];
  const sourcesHash = sourcesDigest(sources);
  const stamp = digest([...parts, sourcesHash]);
  const folder = join(BUILD, stamp);
  const addon = join(folder, "tessera.node");
  mkdirSync(join(BUILD, "objects"), { recursive: true });
  if (!existsSync(addon)) {
    const start = performance.now();
    const units = sources.filter(({ name }) => name.endsWith(".cpp"));
    say(`compiling the native addon for libtorch ${libtorch.version}`);
    const compiled = await compile(compiler, libtorch, units, sources, parts);
    if (sourcesDigest(readSources()) !== sourcesHash) {
      say("native/ changed while it was compiled; again");
      return buildNative(libtorch, env);
    }
    link(compiler, libtorch, compiled.objects, folder);
    say(`compiled ${compiled.fresh} of ${units.length} files in ${since(start)}`);
  }
  const record = {
    addon,
    libtorch,
    builtAt: new Date().toISOString(),
    stamp,
    sources: sourcesHash,
    fingerprint: fingerprint(libtorch.lib),
  };
  remember(record, env);
  return record;
}

/** All of native/ in a fixed order: what the addon is made from. */
function readSources() {
  const names = existsSync(NATIVE) ? readdirSync(NATIVE).filter((name) => /\.(cpp|h)$/.test(name)) : [];
  if (!names.some((name) => name.endsWith(".cpp")))
    throw new SetupError(`${NATIVE} holds no C++ file: the checkout is not whole.`);
  return names.sort().map((name) => ({ name, text: readFileSync(join(NATIVE, name), "utf8") }));
}

/** A file and those of native/ that it includes, each once. */
function withIncluded(unit, all, seen = new Set()) {
  if (seen.has(unit)) return [];
  seen.add(unit);
  const named = [...unit.text.matchAll(/^#include "(.+)"/gm)].map(([, included]) => all.find(({ name }) => name === included));
  return [unit, ...named.filter(Boolean).flatMap((each) => withIncluded(each, all, seen))];
}

function sourcesDigest(sources) {
  return digest(sources.flatMap(({ name, text }) => [name, text]));
}

/** CXX may hold a launcher or flags too ("ccache g++"). */
function compilerOf(env) {
  const words = (env.CXX || "g++").trim().split(/\s+/);
  const asked = run(words[0], [...words.slice(1), "--version"]);
  if (!asked.ok) {
    const way = env.CXX ? "set CXX to a C++ compiler or unset it" : "run sudo apt-get install g++";
    throw new SetupError(`${words.join(" ")} (the C++ compiler) does not run: ${way}.`);
  }
  return { words, version: asked.stdout, openMp: !/clang/i.test(asked.stdout) };
}

/** Compiles the files whose object is not there yet, a few at a time. An object is named by all that goes into it. */
async function compile(compiler, libtorch, units, sources, parts) {
  if (!existsSync(join(NODE_HEADERS, "node_api.h"))) throw new SetupError("node-api-headers is not installed: run make setup.");
  const objectOf = (unit, all) => {
    const texts = withIncluded(unit, all).flatMap(({ name, text }) => [name, text]);
    return join(BUILD, "objects", `${unit.name}-${digest([...parts, ...texts])}.o`);
  };
  const objects = units.map((unit) => objectOf(unit, sources));
  const waiting = units.map((unit, i) => ({ unit, object: objects[i] })).filter(({ object }) => !existsSync(object));
  const fresh = waiting.length;
  const jobs = Math.max(1, Math.min(availableParallelism(), fresh, Math.floor(freemem() / BYTES_PER_JOB)));
  const errors = [];
  const work = async () => {
    for (let next = waiting.shift(); next && errors.length === 0; next = waiting.shift()) {
      const temporary = `${next.object}.${process.pid}.tmp`;
      const args = [...compileFlags(libtorch, compiler.openMp), "-c", join(NATIVE, next.unit.name), "-o", temporary];
      const { ok, output } = await spawned(compiler.words, args);
      if (output) process.stderr.write(output);
      if (!ok) errors.push(next.unit.name);
      else if (objectOf(next.unit, readSources()) === next.object) renameSync(temporary, next.object); // else edited meanwhile
      rmSync(temporary, { force: true });
    }
  };
  await Promise.all(Array.from({ length: jobs }, work));
  if (errors.length > 0) throw new SetupError(`${errors.join(", ")} did not compile; the compiler's words are above.`);
  return { objects, fresh };
}

function link(compiler, libtorch, objects, folder) {
  sweep(BUILD);
  const work = join(BUILD, `.tmp-${process.pid}`);
  mkdirSync(work);
  const args = [...compiler.words.slice(1), "-o", join(work, "tessera.node"), ...objects, ...linkFlags(libtorch)];
  const done = run(compiler.words[0], args);
  try {
    if (!done.ok) throw new SetupError(`linking the native addon failed: ${done.stderr.trim()}`);
    checkThatItLoads(join(work, "tessera.node"), libtorch);
    if (existsSync(folder)) rmSync(folder, { recursive: true });
    renameSync(work, folder);
  } catch (error) {
    if (!existsSync(join(folder, "tessera.node"))) throw error; // Otherwise another set-up made the same one meanwhile.
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** A libtorch may be whole for the linker and still miss libraries of its own, such as NVIDIA's for a CUDA build. */
function checkThatItLoads(addon, libtorch) {
  const loaded = run(process.execPath, ["-e", "require(process.argv[1])", addon], { timeout: 120_000 });
  if (loaded.ok) return;
  const reason = /^Error: (.*)$/m.exec(loaded.stderr)?.[1] ?? (loaded.stderr.trim().split("\n").at(-1) || "it crashed");
  throw new SetupError(
    `the native addon for ${describe(libtorch)} was compiled but does not load (${reason}): repair that libtorch, ` +
      "or choose another with LIBTORCH=DIR or TESSERA_LIBTORCH=wheel.",
  );
}

function spawned([program, ...first], args) {
  return new Promise((settle) => {
    const child = spawn(program, [...first, ...args], { stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    child.stdout.on("data", (chunk) => (output += chunk));
    child.stderr.on("data", (chunk) => (output += chunk));
    child.on("error", (error) => settle({ ok: false, output: String(error) }));
    child.on("close", (status) => settle({ ok: status === 0, output }));
  });
}

/** Writes the records, which is the last step: until then programs use the build before. */
function remember(record, env) {
  try {
    const { stamp, addon } = buildFor(env, BUILD);
    const last = JSON.parse(readFileSync(join(BUILD, "current.json"), "utf8"));
    if (stamp === record.stamp && last.stamp === record.stamp && addon === record.addon) return;
  } catch {
    // No record yet, or one that no longer holds.
  }
  const text = `${JSON.stringify(record, null, 2)}\n`;
  writeAtomically(join(BUILD, `for-${choiceOf(env)}.json`), text);
  writeAtomically(join(BUILD, "current.json"), text);
  prune();
}

/** Removes builds and objects that no record names and that are old. */
function prune() {
  const records = readdirSync(BUILD).filter((name) => name.endsWith(".json"));
  const named = new Set(records.map((name) => JSON.parse(readFileSync(join(BUILD, name), "utf8")).stamp));
  const old = (path) => Date.now() - statSync(path).mtimeMs > KEEP_MS;
  for (const name of readdirSync(BUILD)) {
    if (/^[0-9a-f]{16}$/.test(name) && !named.has(name) && old(join(BUILD, name))) rmSync(join(BUILD, name), { recursive: true });
  }
  for (const name of readdirSync(join(BUILD, "objects"))) {
    const path = join(BUILD, "objects", name);
    if (old(path)) rmSync(path);
  }
}

if (isProgram(import.meta.url)) {
  await main(async () => {
    const libtorch = findLibtorch();
    if (!libtorch) throw new SetupError("no libtorch found: run make setup, which gets one.");
    const { addon } = await buildNative(libtorch);
    say(`${describe(libtorch)}: ${addon}`);
  });
}
