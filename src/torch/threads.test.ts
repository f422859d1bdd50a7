// The engine belongs to one JavaScript thread at a time: a second one is refused in words, and may have it when the first has ended.

import { spawnSync } from "node:child_process";
import { runInThisContext } from "node:vm";
import { Worker } from "node:worker_threads";
import { expect, test } from "vitest";
import { addonFor } from "../../scripts/addon-path.mjs";
import { tensor } from "./index.js";

/** What a worker says when it loads the addon and makes a tensor. */
const inWorker = `
  const { parentPort, workerData } = require("node:worker_threads");
  class Tensor {}
  class Failure extends Error {}
  try {
    const native = require(workerData);
    native.setClasses(Tensor, [Failure, Failure, Failure, Failure, Failure]);
    const add = native.resolveOperator("add.Scalar");
    native.scopeBegin();
    const x = native.fromBytes(Float32Array.of(1, 2), [2], "float32");
    const y = native.call(add, x, 1);
    const out = new Float32Array(2);
    native.copyBytes(y, out);
    parentPort.postMessage({ said: [...out].join(), scopes: native.memoryStats().scopes, handles: native.memoryStats().handles });
  } catch (error) {
    parentPort.postMessage({ said: error.message });
  }`;

/** Starts a worker on the addon's path and gives its last message when it has ended; text, because a program in plain Node runs it too. */
const runSource = `(Worker, inWorker, addon) => new Promise((settle, fail) => {
  let message;
  const worker = new Worker(inWorker, { eval: true, workerData: addon });
  worker.on("message", (each) => { message = each; });
  worker.on("error", fail);
  worker.on("exit", () => settle(message));
})`;

test("a second thread is refused while the first one has the engine", async () => {
  const run = runInThisContext(runSource) as (...args: unknown[]) => Promise<{ said: string }>;
  expect((await run(Worker, inWorker, addonFor())).said).toMatch(/the engine runs on one JavaScript thread at a time/);
  expect(tensor([1]).add(1).item()).toBe(2);
});

test("one thread after the other may have it; an open scope and live tensors die with their thread", () => {
  const program = `
    const { Worker } = require("node:worker_threads");
    const run = ${runSource};
    const inWorker = ${JSON.stringify(inWorker)};
    (async () => {
      const said = [];
      for (let i = 0; i < 3; ++i) said.push(await run(Worker, inWorker, process.argv[1]));
      // Ended in the middle of its work.
      const busy = new Worker(inWorker + "; for (;;) { const n = require(workerData); n.fromBytes(new Float32Array(1024), [1024], 'float32'); }", { eval: true, workerData: process.argv[1] });
      await new Promise((go) => busy.once("message", go));
      await new Promise((go) => setTimeout(go, 50));
      await busy.terminate();
      said.push(await run(Worker, inWorker, process.argv[1]));
      console.log(JSON.stringify(said));
    })();`;
  const done = spawnSync(process.execPath, ["-e", program, addonFor()], { encoding: "utf8" });
  expect(done.stderr).toBe("");
  expect(JSON.parse(done.stdout)).toEqual(Array(4).fill({ said: "2,3", scopes: 1, handles: 2 }));
  expect([done.status, done.signal]).toEqual([0, null]);
});
