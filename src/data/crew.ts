// The loader's worker threads: started, told about batches, listened to and ended. Whatever happens to a worker (it throws, it
// exits, it runs out of memory) becomes one error that everyone who waits receives; nobody waits for ever.
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from "node:worker_threads";
import type { Dataset, DatasetSpec } from "./dataset.js";
import { DataError, messageOf } from "./errors.js";
import type { BadSample } from "./reader.js";

/** What a worker is started with, beside what its loader says. */
export interface WorkerStart {
  readonly port: MessagePort;
  readonly spec: DatasetSpec;
}

/** What every worker understands. */
export type Close = { readonly close: true };

/** What every worker may say. */
export type FromAnyWorker =
  | { readonly bad: BadSample }
  | { readonly failed: { readonly message: string; readonly stack: string | undefined } };

/** The compiled worker: Node cannot start a thread from TypeScript, so from src/ this is the file in dist/. */
function workerFile(name: string): URL {
  const compiled = import.meta.url.endsWith(".ts")
    ? new URL(`../../dist/data/${name}`, import.meta.url)
    : new URL(`./${name}`, import.meta.url);
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

/** What a crew is made of. */
export interface CrewOptions<Done extends object> {
  count: number;
  dataset: Dataset;
  /** The worker's file below src/data, as compiled. */
  file: string;
  /** Plain data that its workers are started with, beside a port and the dataset's spec. */
  setup: object;
  onBad: (bad: BadSample) => void;
  /** Hears what else workers say, before those who wait for `changed` go on. */
  onDone?: (done: Done) => void;
}

/** @typeParam Task what workers are told @typeParam Done what they say beside bad samples and failures */
export class Crew<Task extends object, Done extends object> {
  readonly #members: Member[] = [];
  readonly #onBad: (bad: BadSample) => void;
  readonly #onDone: ((done: Done) => void) | undefined;
  #failure: Error | undefined;
  #closing = false;
  /** Those who wait for anything to change. */
  #waiting: (() => void)[] = [];

  constructor({ count, dataset, file, setup, onBad, onDone }: CrewOptions<Done>) {
    this.#onBad = onBad;
    this.#onDone = onDone;
    const url = workerFile(file);
    for (let i = 0; i < count; i++) this.#start(url, { ...setup, spec: dataset.spec }, dataset);
  }

  #start(file: URL, shared: Omit<WorkerStart, "port">, dataset: Dataset): void {
    const { port1, port2 } = new MessageChannel();
    const workerData: WorkerStart = { ...shared, port: port2 };
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
    port1.on("message", (message: FromAnyWorker | Done) => this.#hear(message));
    // An idle loader keeps no process alive; `changed` holds it while somebody waits.
    worker.unref();
    port1.unref();
    this.#members.push({ worker, port: port1, ended });
  }

  /** Tells every worker; they share the work among themselves. */
  tell(task: Task): void {
    for (const { port } of this.#members) port.postMessage(task);
  }

  /** Takes in what workers have said already, without waiting; throws when one has failed. */
  check(): void {
    for (const { port } of this.#members) this.#drain(port);
    if (this.#failure) throw this.#failure;
  }

  /** Resolves when, after this call, a worker has said that something is done, or something goes wrong. */
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
      port.postMessage({ close: true } satisfies Close);
    }
    const timer = setTimeout(() => {
      for (const { worker } of this.#members) void worker.terminate();
    }, GRACE);
    await ended;
    clearTimeout(timer);
  }

  #drain(port: MessagePort): void {
    for (let received = receiveMessageOnPort(port); received !== undefined; received = receiveMessageOnPort(port)) {
      this.#hear(received.message as FromAnyWorker | Done);
    }
  }

  #hear(message: FromAnyWorker | Done): void {
    if ("bad" in message) {
      this.#onBad(message.bad);
    } else if ("failed" in message) {
      const cause = new Error(message.failed.message);
      if (message.failed.stack !== undefined) cause.stack = message.failed.stack;
      this.#fail(new DataError(message.failed.message, { cause }));
    } else {
      this.#onDone?.(message);
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
