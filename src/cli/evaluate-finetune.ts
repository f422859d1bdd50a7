// `tessera evaluate finetune`: what an encoder is worth when it is trained on with a classifier on it, by a published protocol or ours.
import { type Command, Option } from "commander";
import type { FinetunePreset, FinetuneResult } from "../evaluate/index.js";
import { exitOf, type FitFlags, fitArguments, fitFolder, fitOptions, fitReporter } from "./evaluate-fit.js";
import { writeReport } from "./evaluate-report.js";
import { described, openSubject, type SubjectFlags, subjectOptions } from "./evaluate-subject.js";
import { percent, whole } from "./numbers.js";
import { print, printJson, table } from "./output.js";

interface FinetuneFlags extends SubjectFlags, FitFlags {
  preset?: FinetunePreset;
  epochs?: string;
  images?: string;
  fromScratch?: boolean;
  workers?: string;
}

const presets: readonly FinetunePreset[] = ["small", "mae", "cae", "deit", "moco-v3"];

export function registerFinetune(evaluate: Command, setExit: (code: number) => void): void {
  const command = subjectOptions(
    evaluate.command("finetune").description("fine-tuning: encoder and classifier trained together on labelled images"),
    { pixels: false },
  )
    .addOption(new Option("-p, --preset <name>", "whose protocol (default: small, ours)").choices(presets))
    .option("--epochs <count>", "as --set epochs=count")
    .option("--images <count>", "only so many training images, balanced over the classes")
    .option("--from-scratch", "the same architecture with fresh weights: the baseline that pre-training has to beat")
    .option("--seed <number>", "as --set seed=number")
    .option("--workers <count>", "threads that make batches");
  fitOptions(command, "finetune")
    .addHelpText(
      "after",
      `
The folder gets settings.json, metrics.jsonl, checkpoints, confusion.json and, at the end, export/classifier.safetensors (timm's names),
result.json, and classes.json, confusion.png and classes.png: how each class came out.

Examples:
  $ tessera evaluate finetune --weights runs/mine
  $ tessera evaluate finetune --weights runs/mine --from-scratch --epochs 50
  $ tessera evaluate finetune --weights vit.safetensors --data folder:DIR --preset mae --set layerDecay=0.75 --set microBatch=64 --bf16
  $ tessera evaluate finetune --weights runs/mine --out runs/mine/tuned --resume --json`,
    )
    .action(async (flags: FinetuneFlags) => setExit(await evaluateFinetune(flags)));
}

async function evaluateFinetune(flags: FinetuneFlags): Promise<number> {
  const { json = false, resume = false, bf16 = false, fromScratch = false } = flags;
  const { sets, workers } = fitArguments(flags, "epochs");
  const images = flags.images === undefined ? undefined : whole("--images", flags.images);
  const { finetune, finetunePlan } = await import("../evaluate/index.js");
  const settings = finetunePlan({ ...(flags.preset && { preset: flags.preset }), sets });
  const subject = await openSubject(flags, "fine-tuning", { pixels: false });
  const { weights, test, plan } = subject;
  const { subset } = await import("../data/index.js");
  const train = images === undefined || images >= subject.train.length ? subject.train : subset(subject.train, images);
  const about = described(subject);
  const result = await finetune({
    encoder: weights!.encoder,
    train,
    test,
    plan,
    settings,
    out: fitFolder("finetune", flags, weights!.file),
    resume,
    fromScratch,
    bf16,
    about: { ...about, images: train.length },
    reporter: await fitReporter(flags),
    ...(workers !== undefined && { workers }),
  });
  const told = { ...about, preset: flags.preset ?? "small", fromScratch, bf16, ...withoutConfusion(result) };
  const what = fromScratch ? `${subject.name}, from fresh weights` : subject.name;
  if (json) printJson(told);
  else tell(result, what, train.name, test.name);
  const { status, confusion, classes: names } = result;
  if (status === "done" && confusion) {
    await writeReport(result.out, { title: `fine-tuning of ${what}`, names, confusion, result: told }, flags.quiet ?? false);
  }
  return exitOf(result);
}

/** It has as many numbers as pairs of classes, and a file of its own. */
function withoutConfusion({ confusion: _, ...rest }: FinetuneResult) {
  return rest;
}

function tell(result: FinetuneResult, what: string, train: string, test: string): void {
  const { status, scores, exported, out, settings, images } = result;
  print(`fine-tuning of ${what}: ${images.test} images of ${test}, learnt from ${images.train} of ${train}`);
  if (status !== "done") {
    print(`interrupted after ${result.step} steps: go on with --resume --out ${out}`);
    return;
  }
  const row = (name: string, top1: number, top5: number) => [name, percent(top1), percent(top5)];
  print(
    table([
      ["weights", "top-1", "top-5"],
      row(`after ${settings.epochs} epochs`, scores.top1!, scores.top5!),
      ...(scores.averagedTop1 === undefined ? [] : [row("averaged", scores.averagedTop1, scores.averagedTop5!)]),
    ]),
  );
  print(`classifier: ${exported!.classifier}`);
}
