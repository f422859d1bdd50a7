// The entry of a loader's worker thread: opens the dataset from its spec, then fills slots as it is told.
// What travels as messages: the set-up once, a slot's number per batch, bad samples, and a failure. Pixels never do.
import { workerData } from "node:worker_threads";
import type { Close, FromAnyWorker, WorkerStart } from "./crew.js";
import { messageOf } from "./errors.js";
import type { Plan } from "./plan.js";
import { Producer } from "./produce.js";
import { restoreDataset } from "./registry.js";
import { Slot, type SlotData } from "./slots.js";

/** What a worker is started with. */
interface WorkerSetup extends WorkerStart {
  readonly plan: Plan;
  readonly seed: number;
  readonly slots: readonly SlotData[];
}

/** To a worker: the slot of a batch to help with. */
export type Fill = { readonly fill: number };

/** From a worker: a batch is full. */
export type Full = { readonly full: number };

async function serve({ port, spec, plan, seed, slots }: WorkerSetup): Promise<void> {
  const say = (message: FromAnyWorker | Full): void => port.postMessage(message);
  const fail = (error: unknown): void => {
    say({ failed: { message: messageOf(error), stack: error instanceof Error ? error.stack : undefined } });
    port.close();
  };
  const opening = restoreDataset(spec).then(
    (dataset) =>
      new Producer(
        dataset,
        plan,
        seed,
        slots.map((data) => new Slot(data)),
        (bad) => say({ bad }),
      ),
  );
  const fill = async (slot: number, allTaken: () => void): Promise<void> => {
    try {
      const producer = await opening;
      if (await producer.fill(slot, allTaken)) say({ full: slot });
    } catch (error) {
      fail(error);
    } finally {
      allTaken();
    }
  };
  // Batches are begun in the order in which they were asked for, each when the one before has no row left to take.
  let taken: Promise<unknown> = opening.catch(fail);
  let filled: Promise<unknown> = taken;
  port.on("message", (message: Fill | Close) => {
    taken = taken.then(() => {
      if ("close" in message) return filled.then(() => port.close());
      return new Promise<void>((allTaken) => {
        const before = filled;
        filled = fill(message.fill, allTaken).then(() => before);
      });
    });
  });
}

await serve(workerData as WorkerSetup);
