// No input from JavaScript can end the process: a short run of the fuzz (scripts/fuzz-bridge.mjs), whose calls run in child processes.
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";

const fuzz = fileURLToPath(new URL("../../scripts/fuzz-bridge.mjs", import.meta.url));

interface Crash {
  call: number;
  operator: string;
  how: string;
  stderr: string;
}

test("three thousand random calls to the bridge return or throw", { timeout: 600_000 }, async () => {
  const args = [fuzz, "--calls", "3000", "--seed", "2026", "--jobs", "1", "--seconds", "60", "--json"];
  // The exit code is 1 after a crash, of which the report says more.
  const { stdout } = await promisify(execFile)(process.execPath, args).catch((error: { stdout: string }) => error);
  const total = JSON.parse(stdout) as { calls: number; returned: number; threw: number; slow: Crash[]; crashes: Crash[] };
  const again = ({ call, operator, how }: Crash) =>
    `${operator}: ${how} (node scripts/fuzz-bridge.mjs --seed 2026 --only ${call})`;
  expect(total.crashes.map(again)).toEqual([]);
  expect(total.slow.map(again)).toEqual([]);
  expect(total.calls).toBe(3000);
  expect(total.returned).toBeGreaterThan(500);
  expect(total.threw).toBeGreaterThan(500);
});
