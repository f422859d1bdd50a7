/**
 * Gets a libtorch where there is none: PyTorch's CPU wheel by pip (2.x is nearly twice as fast), else Debian's package by apt-get.
 * Of the wheel only the libraries and headers are kept, in `.libtorch/<version>`. `node scripts/get-libtorch.mjs` does it by hand.
 */
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { describe, findLibtorch, UNPACKED } from "./libtorch.mjs";
import { aptInstall, freeBytes, isProgram, main, run, SetupError, say, since, sweep } from "./shared.mjs";

/** The release that is fetched; others that are found work too. */
export const WHEEL_VERSION = "2.13.0";

/** PyTorch's own public index, asked when the user's pip configuration does not know the CPU build. */
const PYTORCH_INDEX = "https://download.pytorch.org/whl/cpu";

const DEBIAN_PACKAGES = ["libtorch-dev", "libopenblas0-pthread"];

/** The wheel (200 MB) and what is kept of it (500 MB), with some room. */
const WHEEL_BYTES = 1e9;

const PLATFORMS = { x64: "manylinux_2_28_x86_64", arm64: "manylinux_2_28_aarch64" };

/**
 * Takes the library and the headers out of a wheel. Python's own bindings, self-tests and static libraries stay behind.
 * `torch.libs`, which some wheels have for bundled libraries, is looked up by them two folders above, hence its place.
 */
const UNPACK = `
import os, re, shutil, sys, zipfile
wheel, target, beside = sys.argv[1:4]
skip = re.compile(r"^torch/lib/(.*\\.a$|libtorch_python|libshm|libaoti_custom_ops|libbackend_with_compiler|libjitbackend_test|libtorchbind_test)")
with zipfile.ZipFile(wheel) as archive:
    for entry in archive.infolist():
        name = entry.filename
        if entry.is_dir() or ".." in name.split("/"):
            continue
        if name == "torch/version.py" or name.startswith(("torch/lib/", "torch/include/")):
            if skip.match(name):
                continue
            path = os.path.join(target, name[len("torch/"):])
        elif name.startswith("torch.libs/"):
            path = os.path.join(beside, name)
        else:
            continue
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with archive.open(entry) as source, open(path, "wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
        os.chmod(path, 0o644)
`;

/**
 * Gets a libtorch and returns it as findLibtorch gives it. `TESSERA_LIBTORCH=wheel|system` allows only the one named.
 * Throws a SetupError that says what to install when nothing works.
 */
export function getLibtorch(env = process.env) {
  const only = env.TESSERA_LIBTORCH || undefined;
  const reasons = [];
  if (only !== "system") {
    const reason = getWheel(env);
    if (reason === null) return found(env);
    reasons.push(reason);
    say(`no wheel of libtorch: ${reason}`);
  }
  if (only !== "wheel") {
    const reason = getDebian();
    if (reason === null) return found(env);
    reasons.push(reason);
    say(`no libtorch from Debian: ${reason}`);
  }
  const ways = {
    wheel: "install pip (sudo apt-get install python3-pip) and have a connection to a package index",
    system: `run sudo apt-get install --no-install-recommends ${DEBIAN_PACKAGES.join(" ")}`,
  };
  const way = only ? ways[only] : `${ways.system}, or pip install torch, or set LIBTORCH to an unpacked libtorch`;
  throw new SetupError(`no libtorch could be had (${reasons.join("; ")}): ${way}, then make setup again.`);
}

function found(env) {
  const libtorch = findLibtorch(env);
  if (!libtorch)
    throw new SetupError("internal: libtorch was installed but is not found; node scripts/libtorch.mjs shows the search.");
  return libtorch;
}

/** Downloads and unpacks the wheel; null when done, else why not. */
function getWheel(env) {
  const platform = PLATFORMS[process.arch];
  if (process.platform !== "linux" || !platform) return `there is no wheel for ${process.platform} on ${process.arch}`;
  if (!run("python3", ["--version"]).ok) return "python3 is not on this machine";
  if (!hasPip()) {
    say("python3 has no pip; asking apt-get for python3-pip");
    const reason = aptInstall(["python3-pip"]);
    if (reason !== null || !hasPip()) return `python3 has no pip${reason ? ` (${reason})` : ""}`;
  }
  mkdirSync(UNPACKED, { recursive: true });
  sweep(UNPACKED);
  const free = freeBytes(UNPACKED);
  if (free < WHEEL_BYTES) return `${UNPACKED} has ${(free / 1e9).toFixed(1)} GB free and 1 GB is needed`;
  const work = join(UNPACKED, `.tmp-${process.pid}`);
  mkdirSync(work);
  try {
    const downloaded = download(env, platform, work);
    if (downloaded !== null) return downloaded;
    return unpack(work);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function hasPip() {
  return run("python3", ["-m", "pip", "--version"]).ok;
}

function download(env, platform, work) {
  const start = performance.now();
  say(`downloading PyTorch ${WHEEL_VERSION} for the CPU (200 MB) with pip`);
  const tags = ["--platform", platform, "--python-version", "3.11", "--implementation", "cp", "--abi", "cp311"];
  const quick = ["--retries", "1", "--timeout", "20", "--disable-pip-version-check", "--progress-bar", "off"];
  const args = ["-m", "pip", "download", "--no-deps", "--only-binary=:all:", ...tags, ...quick, "--dest", work];
  let reason = "";
  for (const index of [[], ["--extra-index-url", PYTORCH_INDEX]]) {
    const pip = run("python3", [...args, ...index, `torch==${WHEEL_VERSION}+cpu`], {
      env: { ...process.env, ...env, TMPDIR: work },
    });
    if (pip.ok) {
      say(`downloaded in ${since(start)}`);
      return null;
    }
    reason = pip.stderr.split("\n").findLast((line) => line.startsWith("ERROR:")) ?? "ERROR: pip failed";
    if (index.length === 0) say("the pip configuration here does not lead to it; asking PyTorch's own index");
  }
  return `pip: ${reason.replace("ERROR:", "").trim()}`;
}

/** Takes what is needed out of a wheel into `target`; its `torch.libs`, if any, goes into `beside`. */
export function unpackWheel(wheel, target, beside) {
  return run("python3", ["-c", UNPACK, wheel, target, beside]);
}

function unpack(work) {
  const start = performance.now();
  const wheel = readdirSync(work).find((name) => name.endsWith(".whl"));
  if (!wheel) return "pip downloaded no wheel";
  const fresh = join(work, "torch");
  const python = unpackWheel(join(work, wheel), fresh, UNPACKED);
  if (!python.ok) return `unpacking ${wheel} failed: ${python.stderr.trim().split("\n").at(-1)}`;
  const target = join(UNPACKED, WHEEL_VERSION);
  try {
    if (existsSync(target)) renameSync(target, join(work, "replaced")); // It was there but not whole, or it would have been found.
    renameSync(fresh, target);
  } catch (error) {
    if (!existsSync(target)) throw error; // Otherwise another set-up was faster, and its copy is as good.
  }
  say(`unpacked in ${since(start)}`);
  return null;
}

function getDebian() {
  const start = performance.now();
  say(`installing ${DEBIAN_PACKAGES.join(" and ")} with apt-get (can take some minutes)`);
  const reason = aptInstall(DEBIAN_PACKAGES);
  if (reason === null) say(`installed in ${since(start)}`);
  return reason;
}

if (isProgram(import.meta.url)) {
  await main(() => {
    const libtorch = findLibtorch() ?? getLibtorch();
    say(describe(libtorch));
  });
}
