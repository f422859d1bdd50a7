/**
 * Finds a libtorch: `LIBTORCH`, the active Python's torch, a copy unpacked before in `.libtorch/`, the system's.
 * `node scripts/libtorch.mjs` prints what it found as JSON. Nothing is loaded and nothing is downloaded here (get-libtorch.mjs does).
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { isProgram, main, projectRoot, run, SetupError } from "./shared.mjs";

/** The oldest libtorch the bridge is written for. */
export const OLDEST = "1.13.0";

/** Where get-libtorch.mjs unpacks, one folder a version. */
export const UNPACKED = join(projectRoot, ".libtorch");

/** Where a system keeps what was installed by hand, and by its packages. */
const SYSTEM = ["/usr/local", "/usr"];

const TRIPLETS = { x64: "x86_64-linux-gnu", arm64: "aarch64-linux-gnu" };

/** Looks for the module without importing it: importing torch takes seconds. */
const ASK_PYTHON = `
import importlib.util
spec = importlib.util.find_spec("torch")
print(spec.submodule_search_locations[0] if spec and spec.submodule_search_locations else "")
`;

/**
 * @typedef {object} Libtorch
 * @property {string} root the folder it was found in
 * @property {string} lib the folder of libtorch_cpu.so
 * @property {string[]} include the folders for the compiler
 * @property {string} version such as "2.13.0"
 * @property {"LIBTORCH" | "python" | "unpacked" | "system"} source
 * @property {boolean} cuda whether libtorch_cuda.so is there
 * @property {0 | 1} cxx11Abi which std::string it was compiled with (_GLIBCXX_USE_CXX11_ABI)
 */

/**
 * The libtorch to use, or null where there is none.
 * `LIBTORCH` and `TESSERA_LIBTORCH` (`system`, or `wheel` for the unpacked copy) are orders: where they cannot be followed
 * the answer is an error, never another libtorch.
 *
 * @param {Record<string, string | undefined>} [env]
 * @param {{ unpacked?: string, system?: string[] }} [places] other folders to look in, for tests
 * @returns {Libtorch | null}
 */
export function findLibtorch(env = process.env, { unpacked = UNPACKED, system = SYSTEM } = {}) {
  if (env.LIBTORCH) return inspectOrThrow(resolve(env.LIBTORCH), "LIBTORCH");
  const only = env.TESSERA_LIBTORCH || undefined;
  if (only !== undefined && only !== "system" && only !== "wheel") {
    throw new SetupError(`TESSERA_LIBTORCH is "${only}": expected "wheel" or "system", or leave it unset.`);
  }
  if (only === undefined) {
    const python = inPython(env);
    if (python) return python;
  }
  if (only !== "system") {
    const copy = unpackedCopy(unpacked);
    if (copy) return copy;
  }
  if (only !== "wheel") {
    for (const root of system) {
      const { found } = inspect(root, "system");
      if (found) return found;
    }
  }
  return null;
}

/** Looks at one folder: what it holds as a libtorch, or what is missing for one. */
export function inspect(root, source) {
  const missing = [];
  const triplet = TRIPLETS[process.arch];
  const libs = [join(root, "lib"), ...(triplet ? [join(root, "lib", triplet)] : []), join(root, "lib64")];
  const lib = libs.find((folder) => existsSync(join(folder, "libtorch_cpu.so")));
  if (!lib) missing.push("lib/libtorch_cpu.so");
  else if (!existsSync(join(lib, "libc10.so"))) missing.push("lib/libc10.so");
  const headers = join(root, "include");
  if (!existsSync(join(headers, "ATen", "ATen.h"))) missing.push("include/ATen/ATen.h");
  const version = versionOf(root);
  if (!version) missing.push("include/torch/csrc/api/include/torch/version.h");
  if (missing.length > 0 || !lib || !version) return { missing };
  if (compareVersions(version, OLDEST) < 0) return { missing: [], tooOld: version };
  const api = join(headers, "torch", "csrc", "api", "include");
  const include = existsSync(api) ? [headers, api] : [headers];
  const cuda = existsSync(join(lib, "libtorch_cuda.so"));
  return { missing, found: { root, lib, include, version, source, cuda, cxx11Abi: cxx11AbiOf(lib) } };
}

function inspectOrThrow(root, source) {
  if (!existsSync(root)) throw new SetupError(`${source} is "${root}", and there is no such folder.`);
  const { found, missing, tooOld } = inspect(root, source);
  if (found) return found;
  if (tooOld) throw new SetupError(`${source} is "${root}", which holds libtorch ${tooOld}: ${OLDEST} or newer is needed.`);
  const inner = ["libtorch", "torch"].map((name) => join(root, name)).find((folder) => inspect(folder, source).found);
  const hint = inner ? `set it to ${inner}` : "it must be a folder with libtorch's lib/ and include/";
  throw new SetupError(
    `${source} is "${root}", which lacks ${missing.join(" and ")}: ${hint}, or unset it to have libtorch found.`,
  );
}

/** The torch of the Python that a plain `python3` starts, when it is whole and new enough. */
function inPython(env) {
  const asked = run("python3", ["-c", ASK_PYTHON], { env: { ...process.env, ...env }, cwd: "/", timeout: 20_000 });
  const root = asked.ok ? asked.stdout.trim() : "";
  // Debian's python3-torch keeps only links here; the whole is then found as the system's.
  return root ? (inspect(root, "python").found ?? null) : null;
}

function unpackedCopy(folder) {
  if (!existsSync(folder)) return null;
  const versions = readdirSync(folder).filter((name) => /^\d+\.\d+/.test(name));
  versions.sort((a, b) => compareVersions(b, a));
  for (const version of versions) {
    const { found } = inspect(join(folder, version), "unpacked");
    if (found) return found;
  }
  return null;
}

/** From version.py (Python's torch) or from the C++ header. */
function versionOf(root) {
  const python = readIfThere(join(root, "version.py"));
  const fromPython = python && /__version__\s*(?::[^=]+)?=\s*['"](\d+\.\d+(?:\.\d+)?)/.exec(python)?.[1];
  if (fromPython) return fromPython;
  for (const path of ["torch/headeronly/version.h", "torch/csrc/api/include/torch/version.h", "torch/version.h"]) {
    const header = readIfThere(join(root, "include", path));
    const part = (name) => header && new RegExp(`#define TORCH_VERSION_${name} (\\d+)`).exec(header)?.[1];
    if (part("MAJOR")) return `${part("MAJOR")}.${part("MINOR")}.${part("PATCH")}`;
  }
  return null;
}

/**
 * Every libc10 exports torchCheckFail(char const*, char const*, unsigned, std::string const&), and the name of std::string in it
 * says which of the two it is: the new one is spelt out in the namespace __cxx11, the old one is "Ss".
 */
function cxx11AbiOf(lib) {
  const symbols = readFileSync(join(lib, "libc10.so"));
  if (symbols.includes("torchCheckFailEPKcS2_jRKSs")) return 0;
  return 1;
}

/** Compares dotted versions by number: negative when `a` is older. */
export function compareVersions(a, b) {
  const [left, right] = [a, b].map((version) => version.split(".").map((part) => Number.parseInt(part, 10) || 0));
  for (let i = 0; i < 3; i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** One line for people. */
export function describe(libtorch) {
  const where = {
    LIBTORCH: "from LIBTORCH",
    python: "the active Python's",
    unpacked: "unpacked by setup",
    system: "the system's",
  }[libtorch.source];
  const folder = libtorch.source === "system" ? libtorch.lib : libtorch.root;
  return `libtorch ${libtorch.version}${libtorch.cuda ? " with CUDA" : ""} (${where}, ${folder})`;
}

function readIfThere(path) {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}

if (isProgram(import.meta.url)) {
  await main(() => {
    const found = findLibtorch();
    if (!found)
      throw new SetupError(
        `no libtorch found (looked in LIBTORCH, python3's torch, ${UNPACKED}, ${SYSTEM.join(", ")}): run make setup.`,
      );
    process.stdout.write(`${JSON.stringify(found, null, 2)}\n`);
  });
}
