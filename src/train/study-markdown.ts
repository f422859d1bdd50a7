// A study's report as text: the table, what it was made by and on, and what is missing. The same rows serve the terminal.
import { basename } from "node:path";
import { parseSpec } from "../data/index.js";
import { duration } from "../fit/index.js";
import { bySeed, describeDifference, describeSample, differenceOf } from "./study-numbers.js";
import type { Column, StudyReport, StudyRow } from "./study-report.js";

/** Header and rows of the table. A cell is empty where there is nothing. */
export function studyTable(report: StudyReport): string[][] {
  const { columns, rows, reference, paper } = report;
  const compared = rows.filter(({ kind }) => kind === "arm").length > 1;
  const header = columns.flatMap(({ label }) => [label, ...(compared ? [`to ${reference.label}`] : [])]);
  const body = rows.map((row) => [
    `${row.label}${seedsOf(row, report)}`,
    ...columns.flatMap(({ id }) => {
      const cell = row.cells[id];
      const difference = row.kind === "arm" ? cell?.difference : null;
      return [cell ? describeSample(cell) : "", ...(compared ? [difference ? describeDifference(difference) : ""] : [])];
    }),
    row.seconds ? duration(row.seconds.mean) : "",
    ...(paper?.columns ?? []).map((name) => (name in row.paper ? String(row.paper[name]) : "")),
  ]);
  return [["", ...header, "training", ...(paper?.columns ?? []).map((name) => `paper: ${name}`)], ...body];
}

/** `(1 seed)` where a row has fewer than the study. */
function seedsOf({ seeds, kind, label }: StudyRow, { seeds: all }: StudyReport): string {
  if (seeds.length === all.length || (kind === "baseline" && /^raw pixels/.test(label))) return "";
  return seeds.length === 0 ? " (no results)" : ` (${seeds.length} of ${all.length} seeds)`;
}

/** For each measure the best arm, and the arms that these seeds do not tell from it. */
export function verdicts({ columns, rows }: StudyReport): string[] {
  return columns.flatMap((column) => {
    const arms = rows.filter(({ kind, cells }) => kind === "arm" && column.id in cells);
    arms.sort((a, b) => b.cells[column.id]!.mean - a.cells[column.id]!.mean);
    const [best, ...others] = arms;
    return best && others.length > 0 ? [verdict(column, best, others)] : [];
  });
}

function verdict({ id, label }: Column, best: StudyRow, others: readonly StudyRow[]): string {
  const lead = `${label}: ${best.label} is best with ${best.cells[id]!.mean.toFixed(2)}`;
  const gaps = others.map((arm) => ({ arm, gap: differenceOf(bySeed(best, id), bySeed(arm, id)) }));
  if (gaps.every(({ gap }) => gap === null || gap.spread === null)) return `${lead}; one seed tells nothing of chance`;
  const near = gaps.filter(({ gap }) => gap === null || gap.spread === null || gap.mean <= gap.spread);
  if (near.length === 0) return `${lead}, by more than the spread over seeds`;
  return `${lead}, but the spread over seeds does not tell it from ${near.map(({ arm }) => arm.label).join(", ")}`;
}

/** How the numbers are to be read, and what they were made by: sentences. */
export function studyFacts(report: StudyReport): string[] {
  const { evaluate, seeds, images, paper, reference, command, days, totalSeconds, machines, libtorch, tessera } = report;
  const many = seeds.length > 1;
  const spread = many ? `, mean ± standard deviation over seeds ${seeds.join(", ")}` : ` of seed ${seeds[0]}`;
  const on = images
    ? ` on ${images.test} test images of ${nameOf(images.data.test)}, by ${images.train} training images${images.data.train === images.data.test ? "" : ` of ${nameOf(images.data.train)}`}`
    : "";
  const made = [
    ...(command ? [`\`${command}\``] : []),
    ...(days.length > 0 ? [days.join(" to ")] : []),
    ...(totalSeconds > 0 ? [`${duration(totalSeconds)} of training and evaluating`] : []),
    ...machines,
    ...(libtorch.length > 0 ? [`libtorch ${libtorch.join(" and ")}`, `tessera ${tessera.join(" and ")}`] : []),
  ];
  return [
    `Top-1 in percent${on}${spread}. Differences are taken ${many ? "seed by seed " : ""}to ${reference.label}; training time is a run's mean.`,
    protocolsOf(evaluate),
    ...(paper ? [`The paper's figures are those of ${paper.table}.`] : []),
    ...(made.length > 0 ? [`Made by ${made.join("; ")}.`] : []),
  ];
}

/** How the figures were measured. */
function protocolsOf({ knn, linear, attentive }: StudyReport["evaluate"]): string {
  const k = knn.k.length === 1 ? ` with k = ${knn.k[0]}` : "";
  const sentences = [`k-NN${k}; class is the class token, mean the mean of the patches.`];
  const probes = [
    ...(linear ? [`Linear probes by ${protocolOf(linear)}`] : []),
    ...(attentive ? [`${linear ? "attentive" : "Attentive"} probes, which read all tokens, by ${protocolOf(attentive)}`] : []),
  ];
  if (probes.length > 0)
    sentences.push(`${probes.join(", and ")}; where one tries several learning rates, the best on the test images.`);
  return sentences.join(" ");
}

/** `the protocol "grid" with epochs 3` */
function protocolOf({ preset = "grid", readouts: _, ...changes }: { preset?: string | undefined; readouts?: unknown }): string {
  const changed = Object.entries(changes).filter(([, value]) => value !== undefined);
  const how = changed.map(([name, value]) => `${name} ${JSON.stringify(value)}`).join(", ");
  return `the protocol "${preset}"${how ? ` with ${how}` : ""}`;
}

/** A dataset without the place where it lies: `cifar10`, `folder photos`. */
function nameOf(spec: string): string {
  const { kind, argument } = parseSpec(spec);
  return kind === "folder" ? `folder ${basename(argument)}` : kind;
}

/** What is not there, an entry for each row that misses something. */
export function missing({ rows }: StudyReport): string[] {
  return rows.flatMap(({ label, notes }) => notes.map((note) => `${label}, ${note}`));
}

/**
 * The report as Markdown.
 *
 * @param options.chart the picture's path as seen from the page
 * @param options.level of the heading; default 1
 */
export function studyMarkdown(report: StudyReport, { chart, level = 1 }: { chart?: string; level?: number } = {}): string {
  const absent = missing(report);
  const blocks = [
    `${"#".repeat(level)} ${report.title}`,
    ...(report.notes ? [report.notes.trim()] : []),
    markdownTable(studyTable(report)),
    ...(chart ? [`![${report.title}: each seed's result](${chart})`] : []),
    ...listed(verdicts(report)),
    ...studyFacts(report),
    ...(absent.length > 0 ? ["Not there:", ...listed(absent)] : []),
  ];
  return blocks.join("\n\n");
}

const listed = (lines: readonly string[]): string[] => (lines.length > 0 ? [lines.map((line) => `- ${line}`).join("\n")] : []);

/** Numbers to the right, padded so that it reads as it is. */
function markdownTable(rows: readonly (readonly string[])[]): string {
  const safe = rows.map((row) => row.map((cell) => cell.replaceAll("|", "\\|")));
  const widths = safe[0]!.map((_, c) => Math.max(3, ...safe.map((row) => row[c]!.length)));
  const line = (row: readonly string[]) =>
    `| ${row.map((cell, c) => (c === 0 ? cell.padEnd(widths[c]!) : cell.padStart(widths[c]!))).join(" | ")} |`;
  const rule = `|${widths.map((width, c) => (c === 0 ? `${"-".repeat(width + 2)}` : `${"-".repeat(width + 1)}:`)).join("|")}|`;
  return [line(safe[0]!), rule, ...safe.slice(1).map(line)].join("\n");
}
