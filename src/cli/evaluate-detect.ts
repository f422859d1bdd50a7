// `tessera evaluate detect`: what an encoder is worth for finding objects and their outlines; and a trained detector measured again.
import { type Command, Option } from "commander";
import type { CocoDataset } from "../data/index.js";
import type { DetectionPreset } from "../evaluate/index.js";
import type { Scores } from "../fit/index.js";
import { EXIT, UsageError } from "./errors.js";
import { cocoPercent } from "./evaluate-coco.js";
import { exitOf, type FitFlags, fitArguments, fitFolder, fitOptions, fitReporter } from "./evaluate-fit.js";
import { normalizationOf } from "./evaluate-subject.js";
import { whole } from "./numbers.js";
import { Counter, print, printJson, table } from "./output.js";
import { loadWeights, weightsFile } from "./weights.js";

interface DetectFlags extends FitFlags {
  weights?: string;
  data?: string;
  test?: string;
  heads?: string;
  preset?: DetectionPreset;
  epochs?: string;
  images?: string;
  fromScratch?: boolean;
  workers?: string;
  operators?: string;
}

const presets: readonly DetectionPreset[] = ["small", "cae", "swin", "vitdet"];

export function registerDetect(evaluate: Command, setExit: (code: number) => void): void {
  const command = evaluate
    .command("detect")
    .description("detection and instance segmentation: Mask R-CNN on the encoder, by COCO's box and mask AP")
    .option(
      "-w, --weights <path>",
      "a run folder or a safetensors file (timm's names); or a trained detector, to measure it again",
    )
    .option("-d, --data <spec>", "images with objects to learn from: coco:ANNOTATIONS.json,IMAGES_DIR")
    .option("--test <spec>", "those to be judged by (default: the very images of --data)")
    .option("--images <count>", "only the first so many images with objects, to learn from and, without --test, to be judged by")
    .option("--heads <count>", "attention heads, where neither the file nor a run says it (default: width / 64)")
    .addOption(new Option("-p, --preset <name>", "whose protocol (default: small, ours)").choices(presets))
    .option("--epochs <count>", "as --set epochs=count")
    .option("--from-scratch", "the same architecture with fresh weights: the baseline that pre-training has to beat")
    .option("--seed <number>", "as --set seed=number")
    .option("--workers <count>", "threads that make batches")
    .option("--operators <file>", "a library with torchvision's operators (its _C.so) to use instead of our own");
  fitOptions(command, "detect")
    .addHelpText(
      "after",
      `
The folder gets settings.json, metrics.jsonl, checkpoints, results.json (COCO's form), images/*.png and, at the end,
export/detector.safetensors. A detector as --weights is not trained again: only measured, on --test.

Examples:
  $ tessera evaluate detect --weights runs/mine --data coco:train.json,train2017 --test coco:val.json,val2017
  $ tessera evaluate detect --weights vit.safetensors --data coco:... --test coco:... --preset cae --bf16
  $ tessera evaluate detect --weights vit.safetensors --data coco:... --preset vitdet --set windowSize=14 --set batchSize=16
  $ tessera evaluate detect --weights runs/mine/detect-.../export/detector.safetensors --test coco:val.json,val2017 --json`,
    )
    .action(async (flags: DetectFlags) => setExit(await evaluateDetect(flags)));
}

async function evaluateDetect(flags: DetectFlags): Promise<number> {
  if (flags.weights === undefined)
    throw new UsageError("give the encoder to start from, or a trained detector, with --weights PATH");
  const file = weightsFile(flags.weights);
  if (flags.operators !== undefined) {
    const { loadLibrary } = await import("../torch/index.js");
    loadLibrary(flags.operators);
  }
  const { isDetectorFile } = await import("../evaluate/index.js");
  return isDetectorFile(file) ? await measure(file, flags) : await train(file, flags);
}

async function openCoco(option: string, spec: string): Promise<CocoDataset> {
  const { CocoDataset, openDataset } = await import("../data/index.js");
  const dataset = await openDataset(spec);
  if (dataset instanceof CocoDataset) return dataset;
  throw new UsageError(`${option} is ${spec}, which has no objects; expected coco:ANNOTATIONS.json,IMAGES_DIR`);
}

/** The images to learn from and those to be judged by. */
async function openImages({ data, test, images }: DetectFlags): Promise<{ train: CocoDataset; test: CocoDataset }> {
  if (data === undefined) throw new UsageError("say on which images: --data coco:ANNOTATIONS.json,IMAGES_DIR");
  const all = await openCoco("--data", data);
  const learnt = images === undefined ? all : await first(all, whole("--images", images));
  return { train: learnt, test: test === undefined ? learnt : await openCoco("--test", test) };
}

async function first(all: CocoDataset, count: number): Promise<CocoDataset> {
  const some = all.withObjects();
  if (count >= some.length) return some;
  return some.pick(Array.from({ length: count }, (_, i) => i));
}

async function train(file: string, flags: DetectFlags): Promise<number> {
  const { json = false, quiet = false, resume = false, bf16 = false, fromScratch = false, preset = "small" } = flags;
  const { sets, workers } = fitArguments(flags, "epochs");
  const heads = flags.heads === undefined ? {} : { heads: whole("--heads", flags.heads) };
  const { trainDetector, detectionSettingsOf } = await import("../evaluate/index.js");
  const settings = detectionSettingsOf({ preset, sets });
  const images = await openImages(flags);
  const weights = await loadWeights(file, heads);
  const { detectionPlan } = await import("../data/index.js");
  const { mean, std } = normalizationOf(weights) ?? detectionPlan();
  const about = {
    weights: file,
    data: { train: flags.data, test: flags.test ?? flags.data, images: flags.images ?? "all", mean, std },
  };
  const counter = new Counter("measuring", quiet);
  const result = await trainDetector({
    encoder: weights.encoder,
    ...images,
    normalization: { mean, std },
    settings,
    out: fitFolder("detect", flags, file),
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
  if (json) printJson({ ...about, preset, fromScratch, bf16, ...result });
  else {
    const what = fromScratch ? `${file}, from fresh weights` : file;
    const { test, train: learnt } = result.images;
    print(`detection by ${what}: ${test} images of ${images.test.name}, learnt from ${learnt} of ${images.train.name}`);
    if (result.status !== "done") print(`interrupted after ${result.step} steps: go on with --resume --out ${result.out}`);
    else {
      tell(result.scores);
      print(`detector: ${result.detector}`);
    }
  }
  return exitOf(result);
}

async function measure(file: string, flags: DetectFlags): Promise<number> {
  const { json = false, quiet = false, bf16 = false, out } = flags;
  const trained = (["preset", "epochs", "fromScratch", "resume", "seed", "heads"] as const).filter(
    (name) => flags[name] !== undefined,
  );
  if (trained.length > 0 || flags.set.length > 0) {
    const names = [...trained, ...(flags.set.length > 0 ? ["set"] : [])]
      .map((name) => `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`)
      .join(", ");
    throw new UsageError(`${file} is a trained detector, which is only measured: leave out ${names}, or give an encoder`);
  }
  const spec = flags.test ?? flags.data;
  if (spec === undefined) throw new UsageError("say on which images: --test coco:ANNOTATIONS.json,IMAGES_DIR");
  const all = await openCoco(flags.test === undefined ? "--data" : "--test", spec);
  const test = flags.images === undefined ? all : await first(all, whole("--images", flags.images));
  const workers = flags.workers === undefined ? undefined : whole("--workers", flags.workers, 0);
  const { loadDetector, testDetector } = await import("../evaluate/index.js");
  const counter = new Counter("measuring", quiet);
  const { scores, results } = await testDetector({
    detector: loadDetector(file),
    test,
    bf16,
    workers,
    ...(out !== undefined && { out }),
    onProgress: (done, total) => counter.show(done, total),
  });
  counter.end();
  if (json)
    printJson({ weights: file, data: { test: spec }, images: { test: test.length }, bf16, results: results.length, scores });
  else {
    print(`detection by ${file}: ${test.length} images of ${test.name}`);
    tell(scores);
  }
  return EXIT.done;
}

/** COCO's twelve numbers in percent, a row for boxes and one for masks. */
function tell(scores: Scores): void {
  const kinds = ["box", "mask"].filter((kind) => `${kind}AP` in scores);
  const names = Object.keys(scores)
    .filter((name) => name.startsWith("box"))
    .map((name) => name.slice("box".length));
  print(table([["", ...names], ...kinds.map((kind) => [kind, ...names.map((name) => cocoPercent(scores[`${kind}${name}`]!))])]));
}
