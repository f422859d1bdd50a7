// The entry of a detection loader's worker thread. Samples differ in size, so they do not go to slots: each is made in memory of its own, which
// is handed over without a copy. Every worker hears of every sample; who takes its number off a shared counter first makes it.
import { workerData } from "node:worker_threads";
import type { Close, FromAnyWorker, WorkerStart } from "../crew.js";
import { messageOf } from "../errors.js";
import { restoreDataset } from "../registry.js";
import type { CocoDataset } from "./dataset.js";
import { Maker, type MakerSetup } from "./make.js";
import type { DetectionSampleBytes } from "./sample.js";

/** What a worker is started with. */
interface WorkerSetup extends WorkerStart, MakerSetup {
  /** Int32: the next ticket that nobody has taken. */
  readonly taken: SharedArrayBuffer;
}

/** To a worker: make these samples, whose tickets begin at `first`. */
export interface Order {
  readonly first: number;
  readonly epoch: number;
  readonly samples: Uint32Array;
}

/** From a worker: the sample of a ticket; none where it was bad and nothing stands in for it. */
export interface Made {
  readonly ticket: number;
  readonly made: DetectionSampleBytes | undefined;
}

async function serve(setup: WorkerSetup): Promise<void> {
  const { port, spec } = setup;
  const taken = new Int32Array(setup.taken);
  const say = (message: FromAnyWorker | Made, memory: ArrayBuffer[] = []): void => port.postMessage(message, memory);
  const fail = (error: unknown): void => {
    say({ failed: { message: messageOf(error), stack: error instanceof Error ? error.stack : undefined } });
    port.close();
  };
  const opening = restoreDataset(spec).then((dataset) => new Maker(dataset as CocoDataset, setup, (bad) => say({ bad })));
  const serveOrder = async ({ first, epoch, samples }: Order): Promise<void> => {
    const maker = await opening;
    for (const [i, sample] of samples.entries()) {
      const ticket = first + i;
      if (Atomics.compareExchange(taken, 0, ticket, ticket + 1) !== ticket) continue;
      const made = await maker.make(sample, epoch);
      say({ ticket, made }, made && [made.pixels, made.boxes, made.labels, made.crowd, made.masks].map(({ buffer }) => buffer));
    }
  };
  let last: Promise<unknown> = opening.catch(fail);
  port.on("message", (message: Order | Close) => {
    last = last.then(async () => {
      if ("close" in message) return port.close();
      try {
        await serveOrder(message);
      } catch (error) {
        fail(error);
      }
    });
  });
}

await serve(workerData as WorkerSetup);
