// Means and spreads over seeds.

/** Some values in short. */
export interface Sample {
  mean: number;
  /** Standard deviation, with n - 1 below; null for a single value. */
  spread: number | null;
  n: number;
}

/** Null where there are no values. */
export function sampleOf(values: readonly number[]): Sample | null {
  const n = values.length;
  if (n === 0) return null;
  const mean = values.reduce((sum, value) => sum + value, 0) / n;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, spread: n > 1 ? Math.sqrt(squares / (n - 1)) : null, n };
}

/** One measure of a row, by seed. */
export function bySeed(
  { seeds }: { seeds: readonly { seed: number; values: Readonly<Record<string, number>> }[] },
  id: string,
): Map<number, number> {
  return new Map(seeds.flatMap(({ seed, values }) => (id in values ? [[seed, values[id]!] as const] : [])));
}

/** Differences of the values that two rows have for the same key (a seed): chance that a seed brings to both falls out. */
export function differenceOf(values: ReadonlyMap<number, number>, reference: ReadonlyMap<number, number>): Sample | null {
  return sampleOf([...values].flatMap(([key, value]) => (reference.has(key) ? [value - reference.get(key)!] : [])));
}

/** `81.38 ± 0.20`, `81.38` */
export function describeSample({ mean, spread }: Sample): string {
  return `${mean.toFixed(2)}${spread === null ? "" : ` ± ${spread.toFixed(2)}`}`;
}

/** `+0.60 ± 0.15` */
export function describeDifference(sample: Sample): string {
  const text = describeSample({ ...sample, mean: Math.abs(sample.mean) });
  return `${sample.mean <= -0.005 ? "-" : "+"}${text}`;
}
