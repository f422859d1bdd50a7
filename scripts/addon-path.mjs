/**
 * Where the compiled addon for this process is. The engine imports this at run time, so it asks no other program and reads two
 * small files. build-native.mjs writes them: `build/current.json` for the last build, and one `build/for-*.json` for each way a
 * libtorch was asked for, because a program started with another `LIBTORCH` must not silently use the addon of the last build.
 */
import { createHash } from "node:crypto";
import { existsSync, readFileSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const BUILD = join(dirname(fileURLToPath(import.meta.url)), "..", "build");

/** The name under which the build for a choice of libtorch (`LIBTORCH`, `TESSERA_LIBTORCH`) is remembered. */
export function choiceOf(env) {
  if (env.LIBTORCH) return `path-${createHash("sha256").update(resolve(env.LIBTORCH)).digest("hex").slice(0, 12)}`;
  return env.TESSERA_LIBTORCH || "default";
}

/**
 * The build record for this environment: { addon, libtorch, builtAt, stamp, sources, fingerprint }.
 * Throws an Error whose message is the sentence to show when there is none, or when its libtorch was replaced since.
 *
 * @param {Record<string, string | undefined>} [env]
 * @param {string} [build] the build folder
 */
export function buildFor(env = process.env, build = BUILD) {
  const current = readRecord(join(build, "current.json"));
  if (!current) throw new Error("the native addon is not built yet: run make setup.");
  const asked = env.LIBTORCH
    ? `LIBTORCH=${env.LIBTORCH}`
    : env.TESSERA_LIBTORCH
      ? `TESSERA_LIBTORCH=${env.TESSERA_LIBTORCH}`
      : "";
  const record = readRecord(join(build, `for-${choiceOf(env)}.json`)) ?? sameFolder(env, current);
  if (!record) {
    const what = asked || "the libtorch found without LIBTORCH";
    throw new Error(
      `the native addon is not built for ${what} (the last build is for ${current.libtorch.root}): run make setup.`,
    );
  }
  const again = asked ? `run ${asked} make setup.` : "run make setup.";
  if (record.sources !== current.sources) {
    throw new Error(`the native addon for libtorch ${record.libtorch.version} is older than its sources: ${again}`);
  }
  if (!existsSync(record.addon)) throw new Error(`the native addon ${record.addon} is gone: ${again}`);
  if (fingerprint(record.libtorch.lib) !== record.fingerprint) {
    throw new Error(`the libtorch in ${record.libtorch.root} was replaced or removed since the addon was built: ${again}`);
  }
  return record;
}

/** The path of the addon to load in this environment; throws as buildFor does. */
export function addonFor(env = process.env) {
  return buildFor(env).addon;
}

/** A mark that changes when the library in this folder is replaced by another one; "" when it is gone. */
export function fingerprint(lib) {
  const file = statSync(join(lib, "libtorch_cpu.so"), { throwIfNoEntry: false });
  return file ? `${file.size}-${Math.round(file.mtimeMs)}` : "";
}

/** LIBTORCH may name the very folder that the last build found by itself. */
function sameFolder(env, current) {
  return env.LIBTORCH && resolve(env.LIBTORCH) === current.libtorch.root ? current : null;
}

function readRecord(path) {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    if (error.code === "ENOENT") return null;
    throw new Error(`${path} cannot be read (${error.message}): run make clean setup.`);
  }
}
