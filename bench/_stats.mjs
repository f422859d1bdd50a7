// Repeated measurements in few numbers, and how they are written.
import { availableParallelism, cpus, loadavg } from "node:os";
import { getNumThreads, versionInfo } from "../dist/torch/index.js";

/** The least, the median and the greatest. */
export function spread(values) {
  if (values.length === 0) throw new RangeError("there is nothing to summarise: no repeat was measured");
  const sorted = [...values].sort((a, b) => a - b);
  const half = (sorted.length - 1) / 2;
  const median = (sorted[Math.floor(half)] + sorted[Math.ceil(half)]) / 2;
  return { least: sorted[0], median, most: sorted.at(-1) };
}

/** How many times as long as `mine` each turn of `theirs` took, of turns that followed one another: the least, the median and the greatest. */
export function ratiosByTurns(mine, theirs) {
  return spread(mine.map((seconds, turn) => theirs[turn] / seconds));
}

/**
 * How many times as long as `mine` the fastest of the others takes, by medians: of several forms, each measured as often as `mine`, the one with the
 * single best time is often the one that met a quiet moment.
 *
 * @param spreadOf the spread of one side's seconds
 * @returns that ratio, which other it is, and the ratio of the best time of any of them to the best of `mine`
 */
export function compared(mine, others, spreadOf) {
  const fastest = (by) => others.reduce((a, b) => (spreadOf(b)[by] < spreadOf(a)[by] ? b : a));
  const ratio = (by) => spreadOf(fastest(by))[by] / spreadOf(mine)[by];
  return { ratio: ratio("median"), best: fastest("median"), ofBestTimes: ratio("least") };
}

/** Three digits that count. */
export function short(value) {
  if (value === 0 || !Number.isFinite(value)) return String(value);
  if (Math.abs(value) >= 100) return value.toFixed(0);
  return value.toPrecision(3);
}

const units = [
  [1e12, "T"],
  [1e9, "G"],
  [1e6, "M"],
  [1e3, "k"],
];

/** With a prefix of the decimal system: 4.35e11 is `435 G`. */
export function scaled(value) {
  const unit = units.find(([least]) => Math.abs(value) >= least);
  return unit ? `${short(value / unit[0])} ${unit[1]}` : `${short(value)} `;
}

/** Rows of cells as text, columns aligned: the first to the left, the others to the right. */
export function table(rows, indent = "") {
  const widths = [];
  for (const row of rows) for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  const line = (row) => row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join("  ");
  return rows.map((row) => `${indent}${line(row).trimEnd()}`).join("\n");
}

/** What a measurement was made on. */
export function machine() {
  const { torch, cpuCapability } = versionInfo();
  return {
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: availableParallelism(),
    threads: getNumThreads(),
    load: Number(loadavg()[0].toFixed(1)),
    node: process.versions.node,
    torch,
    instructions: cpuCapability,
  };
}

/** Processor seconds of this process, all threads. */
export function cpuSeconds() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

/** Runs `fn` and tells the seconds that went by and those of processor time. */
export function timed(fn) {
  const [start, cpu] = [performance.now(), cpuSeconds()];
  const result = fn();
  return { wall: (performance.now() - start) / 1000, cpu: cpuSeconds() - cpu, result };
}
