/**
 * `make setup`: everything between a fresh clone and a program that runs. Each step looks first and does nothing when it is done
 * already, so running it before every command costs a fraction of a second.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { buildNative } from "./build-native.mjs";
import { buildTypeScript } from "./build-ts.mjs";
import { installDependencies } from "./dependencies.mjs";
import { getLibtorch } from "./get-libtorch.mjs";
import { compareVersions, describe, findLibtorch } from "./libtorch.mjs";
import { isProgram, main, onPath, projectRoot, SetupError, say, since } from "./shared.mjs";

/** package.json's `engines` says the same. */
const OLDEST_NODE = "20.9.0";

/** Sets everything up and returns the addon's build record. */
export async function setup(env = process.env) {
  const start = performance.now();
  checkMachine(env);
  installDependencies();
  const libtorch = findLibtorch(env) ?? getLibtorch(env);
  const record = await buildNative(libtorch, env);
  buildTypeScript();
  say(`ready in ${since(start)}: ${describe(libtorch)}`);
  return record;
}

/** What is missing is said before anything large is downloaded. */
function checkMachine(env) {
  if (compareVersions(process.versions.node, OLDEST_NODE) < 0) {
    throw new SetupError(
      `this is Node ${process.versions.node}, and ${OLDEST_NODE} or newer is needed: see https://nodejs.org/en/download.`,
    );
  }
  if (process.platform !== "linux") throw new SetupError(`this is ${process.platform}; only Linux is supported so far.`);
  if (!env.CXX && !onPath("g++")) throw new SetupError("g++ is not on this machine: run sudo apt-get install g++.");
  if (!existsSync(join(projectRoot, "package-lock.json")))
    throw new SetupError("package-lock.json is gone: the checkout is not whole.");
}

if (isProgram(import.meta.url)) {
  await main(async () => {
    await setup();
  });
}
