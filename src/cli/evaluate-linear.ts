// `tessera evaluate linear`: how well a linear classifier tells the classes by an encoder's frozen features.
import { type Command, Option } from "commander";
import type { LinearPreset, LinearProbeResult } from "../evaluate/index.js";
import { EXIT, UsageError } from "./errors.js";
import { described, openSubject, readoutsNamed, type SubjectFlags, subjectOptions } from "./evaluate-subject.js";
import { listed, notNegative, percent, positive, whole } from "./numbers.js";
import { Counter, print, printJson, table } from "./output.js";

interface LinearFlags extends SubjectFlags {
  preset?: LinearPreset;
  readout?: string;
  lr?: string;
  weightDecay?: string;
  epochs?: string;
  batch?: string;
  warmup?: string;
  optimizer?: "sgd" | "lars";
  batchNorm?: boolean;
  augment?: true | string;
  images?: string;
  cache?: string;
  bf16?: boolean;
  seed?: string;
  json?: boolean;
  quiet?: boolean;
}

const presets: readonly LinearPreset[] = ["grid", "dino", "moco-v3", "mae", "cae"];

export function registerLinear(evaluate: Command, setExit: (code: number) => void): void {
  subjectOptions(
    evaluate.command("linear").description("linear probe: classifiers on frozen features, a grid of learning rates at once"),
  )
    .addOption(new Option("-p, --preset <name>", "whose protocol (default: grid, ours)").choices(presets))
    .option("--readout <name>", "class, mean, class+mean, class:N, level:I (default: the protocol's)")
    .option("--lr <list>", "base learning rates, of a batch of 256; several by commas are tried side by side")
    .option("--weight-decay <list>", "each with each learning rate")
    .option("--epochs <count>", "over the training images")
    .option("--batch <count>", "images a step; no more than there are")
    .option("--warmup <epochs>", "of rising learning rate")
    .addOption(new Option("--optimizer <name>", "of the classifiers").choices(["sgd", "lars"]))
    .option("--batch-norm", "normalise the features over the batch")
    .option("--no-batch-norm", "take the features as they are")
    .option(
      "--augment [views]",
      "random crops and flips as the protocol has them: new ones in every epoch, or so many views of an image taken once",
    )
    .option("--images <count>", "only so many training images, balanced over the classes")
    .option("--cache <GiB>", "memory for features; what does not fit is taken anew in every epoch (default: 4)")
    .option("--bf16", "run the encoder in bfloat16")
    .option("--seed <number>", "of the order of the images and the first weights (default: 0)")
    .option("--json", "the result as JSON on standard output")
    .option("-q, --quiet", "no progress")
    .addHelpText(
      "after",
      `
Without --augment the features of each image are taken once, of one view; the papers' protocols take new random views in every epoch.

Examples:
  $ tessera evaluate linear --weights runs/mine
  $ tessera evaluate linear --weights runs/mine --preset dino --augment
  $ tessera evaluate linear --weights vit.safetensors --data folder:DIR --readout class+mean --lr 0.1,1,10 --json`,
    )
    .action(async (flags: LinearFlags) => setExit(await evaluateLinear(flags)));
}

async function evaluateLinear(flags: LinearFlags): Promise<number> {
  const { json = false, quiet = false, preset, optimizer, batchNorm, bf16 } = flags;
  const given = <T>(value: string | undefined, read: (text: string) => T) => (value === undefined ? undefined : read(value));
  const readouts = flags.readout === undefined ? [] : await readoutsNamed(flags.readout);
  if (flags.pixels && flags.readout !== undefined) throw new UsageError("--readout is of an encoder, but --pixels has none");
  if (readouts.length > 1) throw new UsageError(`--readout is ${flags.readout}; expected one`);
  const options = {
    preset,
    readout: readouts[0],
    lr: given(flags.lr, (text) => listed("--lr", text, positive)),
    weightDecay: given(flags.weightDecay, (text) => listed("--weight-decay", text, notNegative)),
    epochs: given(flags.epochs, (text) => whole("--epochs", text)),
    batchSize: given(flags.batch, (text) => whole("--batch", text)),
    warmupEpochs: given(flags.warmup, (text) => notNegative("--warmup", text)),
    optimizer,
    batchNorm,
    seed: given(flags.seed, (text) => whole("--seed", text, 0)),
  };
  const augment = flags.augment === true ? true : given(flags.augment, (text) => whole("--augment", text));
  const images = given(flags.images, (text) => whole("--images", text));
  const cacheBytes = given(flags.cache, (text) => notNegative("--cache", text) * 2 ** 30);

  const subject = await openSubject(flags, "a linear probe");
  const { weights, test, plan } = subject;
  const [{ linearProbe }, { subset }] = await Promise.all([import("../evaluate/index.js"), import("../data/index.js")]);
  const train = images === undefined || images >= subject.train.length ? subject.train : subset(subject.train, images);
  const counter = new Counter("features", quiet);
  const training = new Counter("training", quiet);
  const result = await linearProbe({
    ...(weights && { encoder: weights.encoder }),
    train,
    test,
    plan,
    protocol: options,
    ...defined({ augment, cacheBytes, bf16 }),
    onFeatures: (done, total) => counter.show(done, total),
    onProgress: ({ done, total, epoch, epochs }) => {
      counter.end();
      training.show(done, total, `, epoch ${epoch} of ${epochs}`);
    },
  });
  counter.end();
  training.end();
  if (json) printJson({ ...described(subject), ...withoutConfusion(result) });
  else {
    print(
      `linear probe of ${subject.name}: ${result.images.test} images of ${test.name}, learnt from ${result.images.train} of ${train.name}`,
    );
    tell(result);
  }
  return EXIT.done;
}

/** The keys that have a value. */
function defined<T extends object>(options: T): { [Key in keyof T]?: Exclude<T[Key], undefined> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as never;
}

/** It has as many numbers as pairs of classes: a file's matter. */
function withoutConfusion({ confusion: _, ...rest }: LinearProbeResult) {
  return rest;
}

function tell({ plan, grid, best, width }: LinearProbeResult): void {
  const { preset, readout, epochs, batchSize, optimizer, batchNorm } = plan;
  const norm = batchNorm ? ", batch norm" : "";
  print(
    `protocol ${preset}: read-out ${readout} (${width} numbers${norm}), ${optimizer.toUpperCase()}, ${epochs} epochs of batches of ${batchSize}`,
  );
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
  print(table([head, ...rows]));
}
