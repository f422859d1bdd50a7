// Which sample comes when: the epoch's order, and who stands in for a sample that turned out bad. Pure functions.
import { ORDER_STREAM, REPLACEMENT_STREAM, Rng } from "./rng.js";

/** The order of an epoch: 0..length-1, shuffled as a function of (seed, epoch), or as it is. */
export function epochOrder(length: number, seed: number, epoch: number, shuffle: boolean): Uint32Array {
  const order = new Uint32Array(length);
  for (let i = 0; i < length; i++) order[i] = i;
  return shuffle ? new Rng(seed, epoch, 0, ORDER_STREAM).shuffle(order) : order;
}

/** How many batches an epoch has. */
export function batchesPerEpoch(length: number, batchSize: number, dropLast: boolean): number {
  return dropLast ? Math.floor(length / batchSize) : Math.ceil(length / batchSize);
}

/** The sample that is tried in place of bad sample `index`, at attempt 0, 1, 2, ... */
export function replacementFor(length: number, seed: number, epoch: number, index: number, attempt: number): number {
  const rng = new Rng(seed, epoch, index, REPLACEMENT_STREAM);
  let choice = 0;
  for (let i = 0; i <= attempt; i++) choice = rng.intBelow(length);
  return choice;
}
