// What came out of a study, from what is in its folder: numbers with their spreads, differences to the reference arm, times.
import { join } from "node:path";
import { writePng } from "../draw/index.js";
import { removeTemporary, replaceText } from "../files.js";
import { describeMachine } from "./machine.js";
import { armRecipe, evaluationData, type Study } from "./study.js";
import { studyChart } from "./study-chart.js";
import { kindNames, type Measured, pixels, type Subject, settingsOf } from "./study-evaluate.js";
import { type Evaluation, isCurrent, ResultFile, standingOf } from "./study-folder.js";
import { studyMarkdown } from "./study-markdown.js";
import { bySeed, differenceOf, type Sample, sampleOf } from "./study-numbers.js";
import { baselinesOf, runFolderOf } from "./study-plan.js";

/** One measure that the rows are compared by. */
export interface Column {
  id: string;
  label: string;
}

export interface Cell extends Sample {
  /** To the reference arm, seed by seed; null for the reference itself and for baselines. */
  difference: Sample | null;
}

export interface StudyRow {
  kind: "arm" | "baseline";
  /** The arm's name, or the baseline's. */
  name: string;
  label: string;
  /** Top-1 in percent by column, of each seed; a baseline without a seed has seed 0. */
  seeds: { seed: number; values: Record<string, number> }[];
  /** By column; a measure that this row cannot have is missing. */
  cells: Record<string, Cell>;
  /** Seconds of training. */
  seconds: Sample | null;
  /** The paper's figures by its own names. */
  paper: Record<string, number>;
  /** What is missing, or why. */
  notes: string[];
}

export interface StudyReport {
  study: string;
  title: string;
  notes?: string;
  command?: string;
  columns: Column[];
  rows: StudyRow[];
  reference: { name: string; label: string };
  seeds: number[];
  evaluate: Study["evaluate"];
  paper?: { table: string; columns: string[] };
  /** Runs that ended because their loss was not finite. */
  failures: number;
  /** Images that evaluations learned from and were made on, of the first that was made. */
  images: { train: number; test: number; data: { train: string; test: string } } | null;
  /** Of all trainings and evaluations in the report. */
  totalSeconds: number;
  /** First and last day of a training or an evaluation, ISO 8601. */
  days: string[];
  machines: string[];
  libtorch: string[];
  tessera: string[];
}

/** Makes the report of what is there, and writes study.json, study.md and study.png. */
export async function makeReport(study: Study, out: string, command?: string): Promise<StudyReport> {
  const report = collectReport(study, out, command);
  removeTemporary(out);
  replaceText(join(out, "study.json"), `${JSON.stringify(report, null, 2)}\n`);
  replaceText(join(out, "study.md"), `${studyMarkdown(report, { chart: "study.png" })}\n`);
  const chart = studyChart(report);
  if (chart) await writePng(join(out, "study.png"), chart);
  return report;
}

/** What the rows of a report are made from. */
interface Entry {
  seed: number;
  values: Record<string, number>;
  seconds?: number;
  note?: string;
}

/** The report of what is in a study's folder; results of other recipes and settings are left out and told of. */
export function collectReport(study: Study, out: string, command?: string): StudyReport {
  const columns = columnsOf(study);
  const facts = new Facts();
  let failures = 0;
  const entryOf = (folder: string, recipe: ReturnType<typeof armRecipe>, seed: number, subject: Subject): Entry => {
    const result = new ResultFile(folder).read();
    const data = evaluationData(recipe, study.evaluate);
    const entry: Entry = { seed, values: {} };
    const open: string[] = [];
    for (const kind of kindNames) {
      const settings = settingsOf(kind, { data, model: recipe.model, evaluate: study.evaluate, subject });
      if (!settings) continue;
      const evaluation = result.evaluations[kind];
      if (isCurrent(evaluation, settings)) {
        facts.evaluated(evaluation, data);
        Object.assign(entry.values, valuesOf(kind, evaluation.measured, columns));
      } else open.push(kind);
    }
    if (open.length > 0) entry.note = `not evaluated by ${inWords(open)} yet`;
    if (result.trained) {
      facts.trained(result.trained);
      entry.seconds = result.trained.seconds;
    }
    return entry;
  };

  const arms = study.arms.map((arm) => {
    const entries = study.seeds.map((seed): Entry => {
      const recipe = armRecipe(study, arm, seed);
      const folder = runFolderOf(out, arm.name, seed);
      const { state, differs } = standingOf(folder, recipe);
      const nothing = { seed, values: {} };
      if (differs.length > 0) return { ...nothing, note: `made with another recipe, which differs in ${differs.join(", ")}` };
      const { failed } = new ResultFile(folder).read();
      if (failed !== undefined && state !== "trained") {
        failures += 1;
        return { ...nothing, note: `failed: ${failed}` };
      }
      if (state !== "trained") return { ...nothing, note: state === "begun" ? "not finished yet" : "not begun yet" };
      return entryOf(folder, recipe, seed, "encoder");
    });
    return rowOf({ kind: "arm", name: arm.name, label: arm.label, paper: study.paper?.values[arm.name] ?? {} }, entries);
  });
  const baselines = new Map<string, Entry[]>();
  for (const { kind, label, folder, recipe, seed = 0 } of baselinesOf(study, out)) {
    const entry = entryOf(folder, recipe, seed, kind === "pixels" ? "pixels" : "encoder");
    baselines.set(label, [...(baselines.get(label) ?? []), entry]);
  }
  const rows = [
    ...[...baselines].map(([label, entries]) => rowOf({ kind: "baseline", name: label, label, paper: {} }, entries)),
    ...arms,
  ];
  const reference = arms.find(({ name }) => name === study.reference)!;
  for (const row of arms) if (row !== reference) addDifferences(row, reference);
  const { paper } = study;
  return {
    study: study.name,
    title: study.title,
    ...(study.notes !== undefined && { notes: study.notes }),
    ...(command !== undefined && { command }),
    columns,
    rows,
    reference: { name: reference.name, label: reference.label },
    seeds: study.seeds,
    evaluate: study.evaluate,
    ...(paper && { paper: { table: paper.table, columns: [...new Set(Object.values(paper.values).flatMap(Object.keys))] } }),
    failures,
    ...facts.summary,
  };
}

/** `a`, `a and b`, `a, b and c` */
const inWords = (names: readonly string[]) => names.join(", ").replace(/, ([^,]+)$/, " and $1");

function columnsOf({ evaluate: { knn, linear, attentive } }: Study): Column[] {
  return [
    ...knn.k.flatMap((k) =>
      knn.readouts.map((readout) => ({
        id: `knn ${readout} ${k}`,
        label: `k-NN ${readout}${knn.k.length > 1 ? `, k ${k}` : ""}`,
      })),
    ),
    ...(linear?.readouts ?? []).map((readout) => ({ id: `linear ${readout}`, label: `linear ${readout}` })),
    ...(attentive ? [{ id: "attentive tokens", label: "attentive" }] : []),
  ];
}

/** By column. Pixels are one read-out, which stands for all. */
function valuesOf(kind: string, measured: Measured, columns: readonly Column[]): Record<string, number> {
  return Object.fromEntries(
    columns.flatMap(({ id }) => {
      if (!id.startsWith(`${kind} `)) return [];
      const own = id.slice(kind.length + 1);
      const value = measured[own] ?? measured[own.replace(/^\S+/, pixels)];
      return value ? [[id, value.top1] as const] : [];
    }),
  );
}

function rowOf(about: Pick<StudyRow, "kind" | "name" | "label" | "paper">, entries: readonly Entry[]): StudyRow {
  const seeds = entries.flatMap(({ seed, values }) => (Object.keys(values).length > 0 ? [{ seed, values }] : []));
  const cells: Record<string, Cell> = {};
  for (const id of new Set(seeds.flatMap(({ values }) => Object.keys(values)))) {
    const sample = sampleOf(seeds.flatMap(({ values }) => values[id] ?? []));
    if (sample) cells[id] = { ...sample, difference: null };
  }
  const seconds = sampleOf(entries.flatMap((entry) => entry.seconds ?? []));
  const notes = new Map<string, number[]>();
  for (const { seed, note } of entries) if (note) notes.set(note, [...(notes.get(note) ?? []), seed]);
  return { ...about, seeds, cells, seconds, notes: [...notes].map(([note, at]) => `seed ${at.join(", ")}: ${note}`) };
}

function addDifferences(row: StudyRow, reference: StudyRow): void {
  for (const [id, cell] of Object.entries(row.cells)) cell.difference = differenceOf(bySeed(row, id), bySeed(reference, id));
}

/** Where, when and on what the results in a report were made. */
class Facts {
  #seconds = 0;
  #images: StudyReport["images"] = null;
  readonly #days = new Set<string>();
  readonly #machines = new Set<string>();
  readonly #libtorch = new Set<string>();
  readonly #tessera = new Set<string>();

  evaluated({ images, seconds, at }: Evaluation, data: { train: string; test?: string | undefined }): void {
    this.#seconds += seconds;
    this.#days.add(at.slice(0, 10));
    this.#images ??= { ...images, data: { train: data.train, test: data.test! } };
  }

  trained({ seconds, at, machine, versions }: NonNullable<ReturnType<ResultFile["read"]>["trained"]>): void {
    this.#seconds += seconds;
    this.#days.add(at.slice(0, 10));
    this.#machines.add(describeMachine(machine));
    this.#libtorch.add(versions.libtorch);
    this.#tessera.add(versions.tessera);
  }

  get summary() {
    const days = [...this.#days].sort();
    return {
      images: this.#images,
      totalSeconds: this.#seconds,
      days: days.length > 1 ? [days[0]!, days.at(-1)!] : days,
      machines: [...this.#machines],
      libtorch: [...this.#libtorch],
      tessera: [...this.#tessera],
    };
  }
}
