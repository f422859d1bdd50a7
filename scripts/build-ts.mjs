/**
 * Compiles src/ to dist/ when a source, the compiler's options or the compiler changed.
 * `node scripts/build-ts.mjs` does it by hand. The stamp is written last, so an interrupted or failed build is made again.
 */
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { digest, isProgram, main, projectRoot, run, SetupError, say, since, writeAtomically } from "./shared.mjs";

const DIST = join(projectRoot, "dist");
const STAMP = join(DIST, ".stamp");

export function buildTypeScript() {
  const sources = filesIn(join(projectRoot, "src")).filter((path) => path.endsWith(".ts") && !path.endsWith(".test.ts"));
  const all = [...sources.map((path) => join("src", path)), "tsconfig.json", "tsconfig.build.json"];
  const compiler = readFileSync(join(projectRoot, "node_modules", "typescript", "package.json"), "utf8");
  const stamp = digest([compiler, ...all.flatMap((path) => [path, readFileSync(join(projectRoot, path), "utf8")])]);
  if (existsSync(STAMP) && readFileSync(STAMP, "utf8") === stamp) return;
  const start = performance.now();
  const tsc = join(projectRoot, "node_modules", ".bin", "tsc");
  const done = run(tsc, ["-p", "tsconfig.build.json"], { cwd: projectRoot });
  if (!done.ok) {
    process.stderr.write(done.stdout + done.stderr);
    throw new SetupError("the TypeScript of src/ did not compile; the compiler's words are above.");
  }
  removeOrphans(new Set(sources.map((path) => path.replace(/\.ts$/, ""))));
  writeAtomically(STAMP, stamp);
  say(`compiled src/ to dist/ in ${since(start)}`);
}

/** Output of a source that was renamed or removed must not stay importable. */
function removeOrphans(sources) {
  for (const path of filesIn(DIST)) {
    const source = path.replace(/(\.d\.ts|\.js)(\.map)?$/, "");
    if (source !== path && !sources.has(source)) rmSync(join(DIST, path));
  }
}

function filesIn(folder) {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath ?? entry.path, entry.name));
  return files.map((path) => path.slice(folder.length + 1)).sort();
}

if (isProgram(import.meta.url)) await main(buildTypeScript);
