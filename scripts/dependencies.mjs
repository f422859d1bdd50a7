/**
 * The npm packages: `npm ci` when node_modules does not hold what package-lock.json says, and nothing otherwise.
 * `node scripts/dependencies.mjs` does it by hand. npm keeps its own account of what it installed (node_modules/.package-lock.json), which is compared entry by entry.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { isProgram, main, onPath, projectRoot, run, SetupError, say, since } from "./shared.mjs";

/** Runs `npm ci` when needed. */
export function installDependencies(root = projectRoot) {
  if (dependenciesAreThere(root)) return;
  if (!onPath("npm"))
    throw new SetupError("npm is not on this machine: run sudo apt-get install npm, or install Node with its own npm.");
  const start = performance.now();
  say("installing the npm packages of package-lock.json");
  const done = run("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error", "--no-update-notifier"], {
    cwd: root,
    stdio: ["ignore", 2, 2],
  });
  if (!done.ok) throw new SetupError("npm ci failed; npm's words are above (is there a connection to the npm registry?).");
  say(`installed in ${since(start)}`);
}

/** Whether every package of the lock file is installed in its version; packages for other platforms need not be. */
export function dependenciesAreThere(root) {
  const wanted = packagesIn(join(root, "package-lock.json"));
  const installed = packagesIn(join(root, "node_modules", ".package-lock.json"));
  if (!wanted || !installed) return false;
  return Object.entries(wanted).every(([path, entry]) => {
    if (path === "") return true;
    const have = installed[path];
    if (!have) return entry.optional === true || entry.devOptional === true;
    return have.version === entry.version && have.integrity === entry.integrity && existsSync(join(root, path));
  });
}

function packagesIn(path) {
  try {
    return JSON.parse(readFileSync(path, "utf8")).packages;
  } catch {
    return null;
  }
}

if (isProgram(import.meta.url)) await main(() => installDependencies());
