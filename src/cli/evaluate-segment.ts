// `tessera evaluate segment`: what an encoder is worth for giving every pixel a class; and a trained segmenter measured again.
import { type Command, Option } from "commander";
import type { Dataset } from "../data/index.js";
import type { ClassScore, SegmentationScores, SegmentPreset } from "../evaluate/index.js";
import { EXIT, UsageError } from "./errors.js";
import { exitOf, type FitFlags, fitArguments, fitFolder, fitOptions, fitReporter } from "./evaluate-fit.js";
import { normalizationOf } from "./evaluate-subject.js";
import { percent, whole } from "./numbers.js";
import { Counter, print, printJson, table } from "./output.js";
import { loadWeights, weightsFile } from "./weights.js";

interface SegmentFlags extends FitFlags {
  weights?: string;
  data?: string;
  test?: string;
  heads?: string;
  preset?: SegmentPreset;
  iterations?: string;
  fromScratch?: boolean;
  workers?: string;
}

const presets: readonly SegmentPreset[] = ["small", "linear", "fcn", "upernet", "cae"];

export function registerSegment(evaluate: Command, setExit: (code: number) => void): void {
  const command = evaluate
    .command("segment")
    .description("semantic segmentation: a class for every pixel, by a head on the encoder")
    .option(
      "-w, --weights <path>",
      "a run folder or a safetensors file (timm's names); or a trained segmenter, to measure it again",
    )
    .option(
      "-d, --data <spec>",
      "images with masks: segmentation:DIR, ade20k:DIR, cityscapes:DIR, coco-masks:ANNOTATIONS.json,DIR",
    )
    .option("--test <spec>", "the images to be judged by (default: the test split of --data)")
    .option("--heads <count>", "attention heads, where neither the file nor a run says it (default: width / 64)")
    .addOption(new Option("-p, --preset <name>", "whose protocol (default: small, ours)").choices(presets))
    .option("--iterations <count>", "as --set iterations=count")
    .option("--from-scratch", "the same architecture with fresh weights: the baseline that pre-training has to beat")
    .option("--seed <number>", "as --set seed=number")
    .option("--workers <count>", "threads that make batches");
  fitOptions(command, "segment")
    .addHelpText(
      "after",
      `
The folder gets settings.json, metrics.jsonl, checkpoints, scores.json, images/segmentation.png and, at the end,
export/segmenter.safetensors. A segmenter as --weights is not trained again: only measured, by its own protocol or --set test....

Examples:
  $ tessera evaluate segment --weights runs/mine --data segmentation:DIR
  $ tessera evaluate segment --weights vit.safetensors --data ade20k:DIR --preset cae --set lr=2e-4 --bf16
  $ tessera evaluate segment --weights vit.safetensors --data cityscapes:DIR --preset linear --set crop=768 --set fit.short=1024
  $ tessera evaluate segment --weights runs/mine/segment-.../export/segmenter.safetensors --data ade20k:DIR --set test.flip=true --json`,
    )
    .action(async (flags: SegmentFlags) => setExit(await evaluateSegment(flags)));
}

async function evaluateSegment(flags: SegmentFlags): Promise<number> {
  if (flags.weights === undefined)
    throw new UsageError("give the encoder to start from, or a trained segmenter, with --weights PATH");
  const file = weightsFile(flags.weights);
  const { isSegmenterFile } = await import("../evaluate/index.js");
  return isSegmenterFile(file) ? await measure(file, flags) : await train(file, flags);
}

/** The images of a part, by `--test` or the parts of `--data`. */
async function openPart(part: "train" | "test", { data, test }: SegmentFlags): Promise<{ spec: string; dataset: Dataset }> {
  const { openDataset } = await import("../data/index.js");
  if (part === "test" && test !== undefined) return { spec: test, dataset: await openDataset(test) };
  if (data === undefined)
    throw new UsageError("say on which images: --data SPEC, such as segmentation:DIR, ade20k:DIR or cityscapes:DIR");
  return { spec: data, dataset: await openDataset(data, part === "test" ? { split: "test" } : {}) };
}

async function train(file: string, flags: SegmentFlags): Promise<number> {
  const { json = false, quiet = false, resume = false, bf16 = false, fromScratch = false, preset = "small" } = flags;
  const { sets, workers } = fitArguments(flags, "iterations");
  const heads = flags.heads === undefined ? {} : { heads: whole("--heads", flags.heads) };
  const [{ segment, segmentPlan }, { segmentationPlan }] = await Promise.all([
    import("../evaluate/index.js"),
    import("../data/index.js"),
  ]);
  const settings = segmentPlan({ preset, sets });
  const weights = await loadWeights(file, heads);
  const [from, to] = [await openPart("train", flags), await openPart("test", flags)];
  const channels = weights.encoder.channels === 1 ? 1 : 3;
  const normalization = normalizationOf(weights);
  const { mean, std } = segmentationPlan({ channels, ...(normalization && { normalization }) });
  const about = { weights: file, data: { train: from.spec, test: flags.test ?? `${from.spec} (test)`, mean, std } };
  const counter = new Counter("measuring", quiet);
  const result = await segment({
    encoder: weights.encoder,
    train: from.dataset,
    test: to.dataset,
    scale: { channels, mean, std },
    settings,
    out: fitFolder("segment", flags, file),
    resume,
    fromScratch,
    bf16,
    about,
    reporter: await fitReporter(flags),
    onProgress: (done, total) => {
      counter.show(done, total);
      if (done === total) counter.end();
    },
    ...(workers !== undefined && { workers }),
  });
  const { findings, ...rest } = result;
  const { images, exported, out, status, step } = result;
  if (json) printJson({ ...about, preset, fromScratch, bf16, ...rest, ...(findings && { segmentation: findings.scores }) });
  else {
    const what = fromScratch ? `${file}, from fresh weights` : file;
    print(
      `segmentation by ${what}: ${images.test} images of ${to.dataset.name}, learnt from ${images.train} of ${from.dataset.name}`,
    );
    if (status !== "done") print(`interrupted after ${step} steps: go on with --resume --out ${out}`);
    else {
      tell(findings!.scores);
      print(`segmenter: ${exported}`);
    }
  }
  return exitOf(result);
}

async function measure(file: string, flags: SegmentFlags): Promise<number> {
  const { json = false, quiet = false, bf16 = false, out } = flags;
  const trained = (["preset", "iterations", "fromScratch", "resume", "seed", "heads"] as const).filter(
    (name) => flags[name] !== undefined,
  );
  if (trained.length > 0) {
    const names = trained.map((name) => `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`).join(", ");
    throw new UsageError(`${file} is a trained segmenter, which is only measured: leave out ${names}, or give an encoder`);
  }
  const { loadSegmenter, savedTest, testSegmenter } = await import("../evaluate/index.js");
  const { spec, dataset } = await openPart("test", flags);
  const saved = loadSegmenter(file);
  const { test, pictures } = savedTest(saved.test, flags.set);
  const counter = new Counter("measuring", quiet);
  const { scores } = await testSegmenter({
    saved: { ...saved, test },
    test: dataset,
    bf16,
    pictures,
    ...(out !== undefined && { out }),
    onProgress: (done, total) => counter.show(done, total),
  });
  counter.end();
  if (json)
    printJson({ weights: file, data: { test: spec }, images: { test: dataset.length }, bf16, test, segmentation: scores });
  else {
    print(`segmentation by ${file}: ${dataset.length} images of ${dataset.name}`);
    tell(scores);
  }
  return EXIT.done;
}

function tell({ mIoU, pixelAccuracy, meanAccuracy, classes }: SegmentationScores): void {
  print(table([["mIoU", "pixel accuracy", "mean accuracy"], [percent(mIoU), percent(pixelAccuracy), percent(meanAccuracy)]])); // biome-ignore format: a table
  const share = (value: number | null) => (value === null ? "" : percent(value));
  const row = ({ name, iou, accuracy, pixels }: ClassScore) => [name, share(iou), share(accuracy), String(pixels)];
  print(`\n${table([["class", "IoU", "accuracy", "pixels"], ...classes.map(row)])}`);
}
