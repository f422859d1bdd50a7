// The order of an epoch in which batches have images of one shape.

/**
 * The same samples in an order whose batches hold either wide or tall images, as far as it goes: a batch is padded to its largest height and
 * width, and a wide image beside a tall one would be mostly padding. A batch comes where its last image comes in the given order; the last few
 * samples of both shapes come at the end.
 */
export function groupedByShape(order: Uint32Array, batchSize: number, isWide: (sample: number) => boolean): Uint32Array {
  const grouped = new Uint32Array(order.length);
  const waiting = [[], []] as [number[], number[]];
  let at = 0;
  const flush = (samples: number[]): void => {
    grouped.set(samples, at);
    at += samples.length;
    samples.length = 0;
  };
  for (const sample of order) {
    const those = waiting[Number(isWide(sample))]!;
    those.push(sample);
    if (those.length === batchSize) flush(those);
  }
  for (const rest of waiting) flush(rest);
  return grouped;
}
