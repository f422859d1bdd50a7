// What the commands of the two probes have in common: options, data, progress, the table of the grid, files.
import { type Command, Option } from "commander";
import type { ProbeImages, ProbePlan, ProbeResult, TrainingProgress } from "../evaluate/index.js";
import { EXIT } from "./errors.js";
import { checkKeep, type KeepFlags, keepingIn } from "./evaluate-keep.js";
import { outOption, writeReport } from "./evaluate-report.js";
import { described, openSubject, type Subject, type SubjectFlags, subjectOptions } from "./evaluate-subject.js";
import { given, listed, notNegative, percent, positive, whole } from "./numbers.js";
import { Counter, print, printJson, table } from "./output.js";

export interface ProbeFlags extends SubjectFlags, KeepFlags {
  preset?: string;
  lr?: string;
  weightDecay?: string;
  epochs?: string;
  batch?: string;
  warmup?: string;
  augment?: true | string;
  images?: string;
  cache?: string;
  bf16?: boolean;
  seed?: string;
  json?: boolean;
  quiet?: boolean;
}

interface ProbeWords {
  /** What the command is for, in one line. */
  description: string;
  presets: readonly string[];
  /** Images of the batch that learning rates are given for. */
  lrBatch: number;
  /** Whether the images' own pixels can be probed; default true. */
  pixels?: boolean;
  examples: readonly string[];
}

/** A probe's command with the options that both have. `own` adds those of one of them. */
export function probeCommand(
  command: Command,
  { description, presets, lrBatch, pixels = true, examples }: ProbeWords,
  own: (command: Command) => Command,
): Command {
  const started = subjectOptions(command.description(description), { pixels }).addOption(
    new Option("-p, --preset <name>", "whose protocol (default: grid, ours)").choices(presets),
  );
  return outOption(
    own(started)
      .option("--lr <list>", `base learning rates, of a batch of ${lrBatch}; several by commas are tried side by side`)
      .option("--weight-decay <list>", "each with each learning rate")
      .option("--epochs <count>", "over the training images")
      .option("--batch <count>", "images a step; no more than there are")
      .option("--warmup <epochs>", "of rising learning rate")
      .option(
        "--augment [views]",
        "random crops and flips as the protocol has them: new ones in every epoch, or so many views of an image taken once",
      )
      .option("--images <count>", "only so many training images, balanced over the classes")
      .option("--cache <GiB>", "memory for features; what does not fit is taken anew in every epoch (default: 4)")
      .option("--bf16", "run the encoder in bfloat16")
      .option("--seed <number>", "of the order of the images and the first weights (default: 0)"),
  )
    .option("--json", "the result as JSON on standard output")
    .option("-q, --quiet", "no progress")
    .addHelpText(
      "after",
      `
Without --augment the features of each image are taken once, of one view; the papers' protocols take new random views in every epoch.

Examples:
${examples.map((each) => `  $ tessera evaluate ${command.name()} ${each}`).join("\n")}`,
    );
}

/** The changes to a protocol that the flags ask for. */
export function protocolOf(flags: ProbeFlags) {
  return {
    lr: given(flags.lr, (text) => listed("--lr", text, positive)),
    weightDecay: given(flags.weightDecay, (text) => listed("--weight-decay", text, notNegative)),
    epochs: given(flags.epochs, (text) => whole("--epochs", text)),
    batchSize: given(flags.batch, (text) => whole("--batch", text)),
    warmupEpochs: given(flags.warmup, (text) => notNegative("--warmup", text)),
    seed: given(flags.seed, (text) => whole("--seed", text, 0)),
  };
}

interface Probe<Result> {
  /** Such as `linear probe`. */
  name: string;
  /** As the command's. */
  pixels?: boolean;
  /** The changes to the protocol, for who goes on to be sure that they are the same. */
  protocol: Readonly<Record<string, unknown>>;
  run(images: ProbeImages & { onProgress(progress: TrainingProgress): void }, subject: Subject): Promise<Result>;
  /** The protocol in one line. */
  describe(result: Result): string;
}

/** Runs a probe as the flags say, and tells, prints and writes what came out. */
export async function evaluateProbe<Result extends ProbeResult & { plan: ProbePlan }>(
  flags: ProbeFlags,
  { name, pixels = true, protocol, run, describe }: Probe<Result>,
): Promise<number> {
  const { json = false, quiet = false, bf16, out } = flags;
  const augment = flags.augment === true ? true : given(flags.augment, (text) => whole("--augment", text));
  const images = given(flags.images, (text) => whole("--images", text));
  const cacheBytes = given(flags.cache, (text) => notNegative("--cache", text) * 2 ** 30);
  checkKeep(flags);
  const subject = await openSubject(flags, `${/^[aeiou]/.test(name) ? "an" : "a"} ${name}`, { pixels });
  const { weights, test, plan } = subject;
  const { subset } = await import("../data/index.js");
  const train = images === undefined || images >= subject.train.length ? subject.train : subset(subject.train, images);
  const begun = { evaluation: name, ...protocol, augment, images, cacheBytes, bf16 };
  await keepingIn(flags, { subject, begun }, async (keep) => {
    const counter = new Counter("features", quiet);
    const training = new Counter("training", quiet);
    const { confusion, ...result } = await run(
      {
        ...(weights && { encoder: weights.encoder }),
        train,
        test,
        plan,
        ...defined({ augment, cacheBytes, bf16, keep }),
        onFeatures: (done, total) => counter.show(done, total),
        onProgress: ({ done, total, epoch, epochs }) => {
          counter.end();
          training.show(done, total, `, epoch ${epoch} of ${epochs}`);
        },
      },
      subject,
    );
    counter.end();
    training.end();
    const told = { ...described(subject), ...result }; // the matrix has as many numbers as pairs of classes: a file's matter
    if (json) printJson(told);
    else {
      const from = `learnt from ${result.images.train} of ${train.name}`;
      print(`${name} of ${subject.name}: ${result.images.test} images of ${test.name}, ${from}`);
      print(describe({ ...result, confusion } as Result));
      print(gridTable(result));
    }
    await writeReport(out, { title: `${name} of ${subject.name}`, names: test.classes!, confusion, result: told }, quiet);
  });
  return EXIT.done;
}

/** The keys that have a value. */
function defined<T extends object>(options: T): { [Key in keyof T]?: Exclude<T[Key], undefined> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as never;
}

/** `SGD, 30 epochs of batches of 256` */
export function trainingOf({ optimizer, epochs, batchSize }: ProbePlan): string {
  return `${optimizer.toUpperCase()}, ${epochs} epochs of batches of ${batchSize}`;
}

/** All members of the grid, the best marked. */
function gridTable({ plan, grid, best }: Pick<ProbeResult, "grid" | "best"> & { plan: ProbePlan }): string {
  const decays = plan.weightDecay.length > 1;
  const epoch = plan.report === "best-epoch";
  const head = ["base lr", "lr", ...(decays ? ["weight decay"] : []), "top-1", "top-5", "loss", ...(epoch ? ["epoch"] : []), ""];
  const rows = grid.map((each) => [
    String(each.baseLr),
    String(Number(each.lr.toPrecision(3))),
    ...(decays ? [String(each.weightDecay)] : []),
    percent(each.top1),
    percent(each.top5),
    Number.isFinite(each.loss) ? each.loss.toFixed(4) : "diverged",
    ...(epoch ? [String(each.epoch)] : []),
    each === best ? "best" : "",
  ]);
  return table([head, ...rows]);
}
