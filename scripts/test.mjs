/**
 * `make test`: set-up, lint, types, import rule, then all tests, and those of what uses the fused operators once more with them off. A
 * step that fails does not hide the ones after it.
 * The last line is `N passed, N failed`, where each step before the tests counts as one.
 *
 *   node scripts/test.mjs             everything
 *   node scripts/test.mjs --engine    set-up and the tests of what touches libtorch, for a second libtorch
 *   node scripts/test.mjs PATH...     set-up and the tests in these paths
 */
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { isProgram, projectRoot, SetupError } from "./shared.mjs";

/** What depends on which libtorch is there: parts of paths, as vitest takes them (tests/engine/ and tests/engine-scopes.test.ts). */
const ENGINE = ["torch", "nn", "optim", "models", "methods"]
  .flatMap((name) => [`src/${name}/`, `tests/${name}`])
  .concat("tests/engine");

/** Of these, what may run on fused operators. */
const FUSED = ENGINE.filter((path) => path !== "tests/engine");

const BIN = join(projectRoot, "node_modules", ".bin");

const CHECKS = [
  { name: "lint", command: [join(BIN, "biome"), "check", "--error-on-warnings", "."] },
  { name: "types", command: [join(BIN, "tsc"), "--noEmit", "-p", "tsconfig.json"] },
  { name: "import rule", command: [process.execPath, join("scripts", "check-imports.mjs")] },
];

/** Runs what the arguments ask for and returns { passed, failed }. */
async function test(args) {
  const total = { passed: 0, failed: 0 };
  const count = (name, ok) => {
    total[ok ? "passed" : "failed"]++;
    process.stdout.write(`${ok ? "passed" : "FAILED"}: ${name}\n`);
  };
  const { setup } = await import("./setup.mjs");
  try {
    await setup();
    count("set-up", true);
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    process.stderr.write(`setup: ${error.message}\n`);
    count("set-up", false);
    if (!existsSync(BIN)) return total;
  }
  const paths = args.includes("--engine") ? ENGINE : args;
  if (args.length === 0) {
    for (const { name, command } of CHECKS) count(name, (await stream(command)) === 0);
  }
  if (total.failed > 0 && !existsSync(join(projectRoot, "build", "current.json"))) return total;
  const add = ({ passed, failed }) => {
    total.passed += passed;
    total.failed += failed;
  };
  if (args.includes("--engine")) (await again(paths)).forEach(add);
  else add(await vitest(paths));
  if (args.length === 0) (await again(FUSED, { TESSERA_FUSED: "0" })).forEach(add);
  return total;
}

/**
 * Runs tests that have run before, each file in a process of its own: now those share one, which spares loading the library for each. But what counts
 * handles or bytes would count what others left to the garbage collector: it runs beside them, each file by itself.
 */
async function again(paths, env) {
  const files = ["src", "tests"]
    .flatMap((folder) => readdirSync(join(projectRoot, folder), { recursive: true }).map((name) => join(folder, name)))
    .filter((file) => file.endsWith(".test.ts") && paths.some((path) => file.includes(path)));
  const counting = files.filter((file) => /memoryStats|allocatorStats/.test(readFileSync(join(projectRoot, file), "utf8")));
  const others = files.filter((file) => !counting.includes(file));
  return Promise.all([vitest(counting, env), vitest([...others, "--no-isolate"], env)]);
}

let reports = 0;

/** Runs vitest with its usual output, and counts from the report it writes beside that. */
async function vitest(paths, env = {}) {
  const report = join(projectRoot, "build", `vitest-${process.pid}-${++reports}.json.tmp`);
  mkdirSync(join(projectRoot, "build"), { recursive: true });
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
  const status = await stream([join(BIN, "vitest"), "run", ...reporters, ...paths], env);
  try {
    return countReport(existsSync(report) ? JSON.parse(readFileSync(report, "utf8")) : null, status);
  } finally {
    rmSync(report, { force: true });
  }
}

/**
 * Counts a report of vitest's JSON reporter. A file that cannot be loaded is a failure even though none of its tests ran, and so
 * is an exit code that the report does not explain (an unhandled error, a crash, no test at all).
 */
export function countReport(report, status) {
  if (!report) return { passed: 0, failed: 1 };
  const files = report.testResults ?? [];
  const broken = files.filter(
    (file) => file.status === "failed" && !file.assertionResults.some((one) => one.status === "failed"),
  );
  const failed = report.numFailedTests + broken.length;
  const unexplained = failed === 0 && (status !== 0 || report.numPassedTests === 0);
  return { passed: report.numPassedTests, failed: failed + (unexplained ? 1 : 0) };
}

function stream([program, ...args], env = {}) {
  return new Promise((settle) => {
    const child = spawn(program, args, { cwd: projectRoot, stdio: "inherit", env: { ...process.env, ...env } });
    child.on("error", () => settle(127));
    child.on("close", (status) => settle(status ?? 1));
  });
}

if (isProgram(import.meta.url)) {
  const { passed, failed } = await test(process.argv.slice(2));
  process.stdout.write(`${passed} passed, ${failed} failed\n`);
  process.exitCode = failed === 0 ? 0 : 1;
}
