// Where an axis has its ticks and how their numbers are written.

/** Round numbers (1, 2, 2.5 or 5 times a power of ten apart) that lie in [low, high], about `count` of them. */
export function niceTicks(low: number, high: number, count = 6): number[] {
  if (!(high > low)) return [low];
  const rough = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 2.5, 5, 10].find((each) => each * power >= rough * 0.999) ?? 10);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step + 0);
}

/** Powers of ten in [low, high], with their 2 and 5 fold where there are few. */
export function logTicks(low: number, high: number): number[] {
  const from = Math.floor(Math.log10(low));
  const to = Math.ceil(Math.log10(high));
  const factors = to - from <= 3 ? [1, 2, 5] : [1];
  const all = Array.from({ length: to - from + 1 }, (_, i) => factors.map((factor) => factor * 10 ** (from + i))).flat();
  return all.filter((each) => each >= low * (1 - 1e-9) && each <= high * (1 + 1e-9));
}

/** A tick's number in as few signs as tell it from neighbours `step` away (0: not evenly spaced). */
export function tickLabel(value: number, step: number): string {
  const size = Math.abs(value);
  if (size >= 1e5 || (size > 0 && size < 1e-3)) {
    const [mantissa, exponent] = value.toExponential(6).split("e") as [string, string];
    return `${Number(mantissa)}e${Number(exponent)}`;
  }
  if (step === 0) return String(Number(value.toPrecision(3)));
  const digits = Math.min(6, Math.max(0, -Math.floor(Math.log10(step) + 1e-9) + (isQuarter(step) ? 1 : 0)));
  return digits === 0 ? String(Math.round(value)) : value.toFixed(digits);
}

function isQuarter(step: number): boolean {
  const mantissa = step / 10 ** Math.floor(Math.log10(step) + 1e-9);
  return Math.abs(mantissa - 2.5) < 1e-6;
}
