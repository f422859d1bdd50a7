// The loader's worker threads: started, told about batches, listened to and ended. Whatever happens to a worker (it throws, it
// exits, it runs out of memory) becomes one error that everyone who waits receives; nobody waits for ever.
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from "node:worker_threads";
import type { Dataset } from "./dataset.js";
import { DataError, messageOf } from "./errors.js";
import type { BadSample } from "./produce.js";
import type { Slot } from "./slots.js";
import type { ViewPlan } from "./views.js";
import type { FromWorker, ToWorker, WorkerSetup } from "./worker.js";

/** The compiled worker: Node cannot start a thread from TypeScript, so from src/ this is the file in dist/. */
function workerFile(): URL {
  const compiled = import.meta.url.endsWith(".ts")
    ? new URL("../../dist/data/worker.js", import.meta.url)
    : new URL("./worker.js", import.meta.url);
  if (!existsSync(compiled)) {
    throw new DataError(
      `The loader's worker is not built: ${fileURLToPath(compiled)} is missing. Run \`npm run build\`, or use workers: 0.`,
    );
  }
  return compiled;
}

/** How long workers get to finish the row they are at before they are ended by force, in milliseconds. */
const GRACE = 5000;

interface Member {
  readonly worker: Worker;
  readonly port: MessagePort;
  readonly ended: Promise<void>;
}

export class Crew {
  readonly #members: Member[] = [];
  readonly #onBad: (bad: BadSample) => void;
  #failure: Error | undefined;
  #closing = false;
  /** Those who wait for anything to change. */
  #waiting: (() => void)[] = [];

  constructor(
    count: number,
    dataset: Dataset,
    plan: ViewPlan,
    seed: number,
    slots: readonly Slot[],
    onBad: (bad: BadSample) => void,
  ) {
    this.#onBad = onBad;
    const file = workerFile();
    const shared = { spec: dataset.spec, plan, seed, slots: slots.map((slot) => slot.data) };
    for (let i = 0; i < count; i++) this.#start(file, shared, dataset);
  }

  #start(file: URL, shared: Omit<WorkerSetup, "port">, dataset: Dataset): void {
    const { port1, port2 } = new MessageChannel();
    const workerData: WorkerSetup = { ...shared, port: port2 };
    let worker: Worker;
    try {
      worker = new Worker(file, { workerData, transferList: [port2], name: "tessera-data", execArgv: [] });
    } catch (cause) {
      throw new DataError(
        `${dataset.name} cannot be given to a worker thread: ${messageOf(cause)}. Its spec must be plain data.`,
        {
          cause,
        },
      );
    }
    const ended = new Promise<void>((resolve) => {
      worker.once("exit", (code) => {
        this.#drain(port1);
        if (!this.#closing) this.#fail(new DataError(`A data worker stopped unexpectedly (exit code ${code}).`));
        port1.close();
        resolve();
      });
    });
    worker.on("error", (cause) => {
      this.#fail(new DataError(`A data worker failed: ${messageOf(cause)}`, { cause }));
    });
    port1.on("message", (message: FromWorker) => this.#hear(message));
    // An idle loader keeps no process alive; `changed` holds it while somebody waits.
    worker.unref();
    port1.unref();
    this.#members.push({ worker, port: port1, ended });
  }

  /** Tells every worker about the batch of a slot; they share its rows among themselves. */
  work(slot: number): void {
    for (const { port } of this.#members) port.postMessage({ fill: slot } satisfies ToWorker);
  }

  /** Takes in what workers have said already, without waiting; throws when one has failed. */
  check(): void {
    for (const { port } of this.#members) this.#drain(port);
    if (this.#failure) throw this.#failure;
  }

  /** Resolves when, after this call, a batch becomes full or something goes wrong. */
  changed(): Promise<void> {
    if (this.#failure || this.#closing) return Promise.resolve();
    return new Promise((resolve) => {
      for (const { worker } of this.#members) worker.ref();
      this.#waiting.push(resolve);
    });
  }

  async close(): Promise<void> {
    this.#closing = true;
    this.#wake();
    const ended = Promise.all(this.#members.map(({ ended }) => ended));
    for (const { worker, port } of this.#members) {
      worker.ref();
      port.postMessage({ close: true } satisfies ToWorker);
    }
    const timer = setTimeout(() => {
      for (const { worker } of this.#members) void worker.terminate();
    }, GRACE);
    await ended;
    clearTimeout(timer);
  }

  #drain(port: MessagePort): void {
    for (let received = receiveMessageOnPort(port); received !== undefined; received = receiveMessageOnPort(port)) {
      this.#hear(received.message as FromWorker);
    }
  }

  #hear(message: FromWorker): void {
    if ("bad" in message) {
      this.#onBad(message.bad);
    } else if ("failed" in message) {
      const cause = new Error(message.failed.message);
      if (message.failed.stack !== undefined) cause.stack = message.failed.stack;
      this.#fail(new DataError(message.failed.message, { cause }));
    } else {
      this.#wake();
    }
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#wake();
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { worker } of this.#members) worker.unref();
    for (const resolve of waiting) resolve();
  }
}
