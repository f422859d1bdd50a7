// `tessera study FILE`: compares recipes on somebody's images, each with several seeds, evaluated in one way.
import { join, relative } from "node:path";
import type { Command } from "commander";
import type { Study, StudyPlan, StudyReport } from "../train/index.js";
import { EXIT, UsageError } from "./errors.js";
import { print, printJson, say, table } from "./output.js";
import { collect } from "./pretrain.js";

interface StudyFlags {
  out?: string;
  arms?: string;
  seeds?: string;
  set: string[];
  dryRun?: boolean;
  report?: boolean;
  page?: string;
  json?: boolean;
  quiet?: boolean;
}

export function registerStudy(program: Command, setExit: (code: number) => void): void {
  program
    .command("study")
    .description("compare recipes on your images: several arms, several seeds, one table")
    .argument("<file>", "a study file (.ts, .js, .json) that default-exports defineStudy({ ... })")
    .option("-o, --out <dir>", "the study's folder (default: runs/study-NAME)")
    .option("--arms <names>", "only these arms, by commas")
    .option("--seeds <numbers>", "only these seeds, by commas")
    .option("-s, --set <path=value>", "change the recipe of every arm; as often as needed", collect, [])
    .option("--dry-run", "say what there is to do, and do nothing")
    .option("--report", "make the report again from what is there, and train nothing")
    .option("--page <file>", "put the report into this Markdown page too, in the study's place")
    .option("--json", "the report as JSON on standard output")
    .option("-q, --quiet", "no progress")
    .addHelpText(
      "after",
      `
Every arm is trained with every seed into OUT/ARM/seed-N, an ordinary run folder, and evaluated. What is done is not done again: the same
command goes on with a study that was interrupted, or that got new arms, seeds or evaluations. An arm whose recipe changed is refused as
long as its folder is there. The report is OUT/study.md, study.json and study.png.

Examples:
  $ tessera study mine.ts --dry-run
  $ tessera study mine.ts
  $ tessera study mine.ts --arms dino,mst --seeds 0
  $ tessera study mine.ts --report --page docs/results.md`,
    )
    .action(async (path: string, flags: StudyFlags) => setExit(await runStudyCommand(path, flags)));
}

async function runStudyCommand(path: string, flags: StudyFlags): Promise<number> {
  const { json = false, quiet = false, dryRun = false, report = false } = flags;
  if (dryRun && report) throw new UsageError("--dry-run says what is to do and --report what was done: give one of them");
  const arms = flags.arms?.split(",").map((name) => name.trim());
  const seeds = flags.seeds?.split(",").map(seedOf);
  const train = await import("../train/index.js");
  const study = await train.loadStudy(path, flags.set);
  const out = flags.out ?? join("runs", `study-${study.name}`);
  if (dryRun) {
    const plan = await train.planStudy(study, out, { arms, seeds });
    if (json) printJson(planForPrograms(study, plan, out));
    else print(describePlan(study, plan, out));
    return EXIT.done;
  }
  const command = commandOf(path, flags);
  const outcome = report
    ? { status: "done" as const, report: await train.makeReport(study, out, command) }
    : await train.runStudy(study, {
        out,
        arms,
        seeds,
        command,
        reporter: quiet ? train.silentReporter : train.streamReporter(process.stderr, { every: 100 }),
      });
  if (flags.page !== undefined) train.writeIntoPage(flags.page, outcome.report, out);
  if (json) printJson({ out, status: outcome.status, ...outcome.report });
  else print(await describeReport(outcome.report, out));
  if (outcome.status === "interrupted") {
    if (!quiet) say(`interrupted: go on with ${command}${flags.out === undefined ? "" : ` --out ${flags.out}`}`);
    return EXIT.interrupted;
  }
  return outcome.report.failures > 0 ? EXIT.failed : EXIT.done;
}

function seedOf(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isInteger(value) || value < 0) {
    throw new UsageError(`--seeds has "${text}"; expected whole numbers, 0 or more, by commas`);
  }
  return value;
}

/** What makes the same results again, wherever the study's folder is. */
function commandOf(path: string, { set }: StudyFlags): string {
  const file = relative(process.cwd(), path);
  return ["npx tessera study", file.startsWith("..") ? path : file, ...set.map((change) => `--set ${change}`)].join(" ");
}

const stateOf = ({ standing: { state, step }, steps }: StudyPlan["runs"][number]) =>
  state === "begun" ? `at step ${step} of ${steps}` : state === "trained" ? "trained" : "to do";

function planForPrograms({ name }: Study, { runs, baselines }: StudyPlan, out: string) {
  return {
    study: name,
    out,
    runs: runs.map(({ arm, seed, folder, steps, standing }) => ({ arm: arm.name, seed, folder, steps, ...standing })),
    baselines: baselines.map(({ kind, seed, folder }) => ({ kind, ...(seed !== undefined && { seed }), folder })),
  };
}

function describePlan({ name, seeds }: Study, { runs }: StudyPlan, out: string): string {
  const rows = runs.map((run) => {
    const { method, train } = run.recipe;
    const images = run.steps * train.batchSize * train.accumulate;
    return [run.arm.label, String(run.seed), method.name, String(run.steps), String(images), stateOf(run)];
  });
  const left = runs.reduce((sum, { steps, standing }) => sum + steps - standing.step, 0);
  const all = runs.reduce((sum, { steps }) => sum + steps, 0);
  return [
    `study ${name} into ${out}: ${runs.length} runs, seeds ${seeds.join(", ")}`,
    table([["arm", "seed", "method", "steps", "images", "state"], ...rows], "  "),
    `${left} of ${all} steps are to do`,
  ].join("\n");
}

async function describeReport(report: StudyReport, out: string): Promise<string> {
  const { studyTable, verdicts, studyFacts, missing } = await import("../train/index.js");
  return [
    report.title,
    table(studyTable(report), "  "),
    ...verdicts(report),
    ...studyFacts(report),
    ...missing(report).map((text) => `not there: ${text}`),
    `report  ${join(out, "study.md")}`,
    `chart   ${join(out, "study.png")}`,
  ].join("\n");
}
