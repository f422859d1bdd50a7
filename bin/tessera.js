#!/usr/bin/env node
// Starts the command line that src/cli/ is compiled to.
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
const main = new URL("../dist/cli/main.js", import.meta.url);

if (major < 20 || (major === 20 && minor < 9)) {
  fail(`this is Node ${process.versions.node}, and 20.9 or newer is needed: see https://nodejs.org/en/download`);
} else if (!existsSync(fileURLToPath(main))) {
  fail(`it is not built yet: run make setup in ${fileURLToPath(new URL("..", import.meta.url))}`);
} else {
  const { run } = await import(main.href);
  process.exitCode = await run(process.argv.slice(2));
}

/** @param {string} reason */
function fail(reason) {
  process.stderr.write(`tessera: ${reason}\n`);
  process.exitCode = 1;
}
