// Who may train in a run folder.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { RunError } from "./errors.js";
import { lockRun } from "./lock.js";

let folder: string;
let file: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tessera-lock-"));
  file = join(folder, "lock.json");
});
afterEach(() => rmSync(folder, { recursive: true }));
const left = (owner: object | string) => writeFileSync(file, typeof owner === "string" ? owner : JSON.stringify(owner));

test("one at a time, and given back", () => {
  const unlock = lockRun(folder);
  expect(() => lockRun(folder)).toThrow(RunError);
  expect(() => lockRun(folder)).toThrow(`${folder} is in use by process ${process.pid}: wait until it ends or stop it`);
  unlock();
  expect(existsSync(file)).toBe(false);
  lockRun(folder)();
});

test("what a killed process left is taken over, finished or not", () => {
  const { pid } = spawnSync(process.execPath, ["--version"]);
  for (const remains of [{ pid, host: hostname() }, "", '{"pid":', {}]) {
    left(remains);
    lockRun(folder)();
    expect(existsSync(file)).toBe(false);
  }
});

test("a lock of another machine stays", () => {
  left({ pid: 1, host: "elsewhere" });
  expect(() => lockRun(folder)).toThrow(/process 1 on elsewhere.*remove .*lock\.json/);
});
