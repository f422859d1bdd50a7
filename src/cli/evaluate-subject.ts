// What the evaluations have in common: whose encoder, on which labelled images, read how.
import type { Command } from "commander";
import type { Dataset, ViewPlan } from "../data/index.js";
import type { Readout } from "../evaluate/index.js";
import type { DataRecipe } from "../train/index.js";
import { CommandError, UsageError } from "./errors.js";
import { whole } from "./numbers.js";
import { loadWeights, type Weights } from "./weights.js";

export interface SubjectFlags {
  weights?: string;
  pixels?: boolean;
  data?: string;
  test?: string;
  size?: string;
  heads?: string;
}

export interface Subject {
  /** What is measured, for people: a file, or the pixels themselves. */
  name: string;
  /** Null for pixels. */
  weights: Weights | null;
  data: DataRecipe & { test: string };
  train: Dataset;
  test: Dataset;
  /** One view without chance. */
  plan: ViewPlan;
}

/**
 * Loads the encoder and opens the images.
 *
 * @param what what needs labels, as in `k-NN` @param options.pixels whether there may be pixels instead of an encoder; default true
 */
export async function openSubject(
  flags: SubjectFlags,
  what: string,
  { pixels = true }: { pixels?: boolean } = {},
): Promise<Subject> {
  const size = flags.size === undefined ? undefined : whole("--size", flags.size);
  const heads = flags.heads === undefined ? undefined : whole("--heads", flags.heads);
  if (flags.weights === undefined && !pixels) throw new UsageError("give the encoder with --weights PATH");
  if ((flags.weights === undefined) === !flags.pixels) {
    throw new UsageError("give what is to be measured: either --weights PATH, or --pixels for the images' own pixels");
  }
  const weights = flags.weights === undefined ? null : await loadWeights(flags.weights, heads === undefined ? {} : { heads });
  const data = await dataFor(weights, { spec: flags.data, test: flags.test, size });
  const stride = weights?.encoder.stride ?? 1;
  if (data.evalSize % stride !== 0) {
    throw new UsageError(`--size is ${data.evalSize}; expected a multiple of the encoder's patch size, ${stride}`);
  }
  const { test } = data;
  if (!test) throw new UsageError(`${data.train} has no test split by itself; give the images to classify with --test SPEC`);
  const { evaluationPlan, knnSplits } = await import("../train/index.js");
  const splits = await knnSplits({ data });
  if (!splits)
    throw new CommandError(`${data.train} and ${test} have no labels, which ${what} needs; give labelled images with --data`);
  const name = weights?.file ?? "the images' pixels";
  return { name, weights, ...splits, data: { ...data, test }, plan: evaluationPlan({ data }) };
}

/** Whose encoder, on which images. @param options.pixels whether the images' own pixels can be measured too; default true */
export function subjectOptions(command: Command, { pixels = true }: { pixels?: boolean } = {}): Command {
  command.option("-w, --weights <path>", "a run folder or a safetensors file (timm's names or the framework's own)");
  if (pixels) command.option("--pixels", "no encoder: the images' own pixels, the baseline that an encoder has to beat");
  return command
    .option("-d, --data <spec>", "the labelled images, such as cifar10:DIR (default: those of the run)")
    .option("--test <spec>", "the images to classify (default: the test split of --data)")
    .option("--size <pixels>", "side of the images (default: the run's, else what the positions are made for)")
    .option("--heads <count>", "attention heads, where neither the file nor a run says it (default: width / 64)");
}

/** The read-outs that are asked for, checked against the encoder. */
export async function readoutsFor({ encoder, recipe }: Weights, flags: { readout?: string; data?: string }): Promise<Readout[]> {
  const wanted = flags.readout === undefined ? undefined : await readoutsNamed(flags.readout);
  const chosen = wanted ?? [recipe && flags.data === undefined ? recipe.knn.readout : encoder.prefix === 1 ? "class" : "mean"];
  const { readoutProblem } = await import("../evaluate/index.js");
  for (const readout of chosen) {
    const problem = readoutProblem(readout, encoder);
    if (problem) throw new UsageError(`--readout is ${readout}, but ${problem}`);
  }
  return chosen;
}

/** The read-outs named by a text, several by commas. */
export async function readoutsNamed(text: string): Promise<Readout[]> {
  const { isReadout, readoutForms } = await import("../evaluate/index.js");
  return text.split(",").map((each) => {
    if (!isReadout(each.trim())) throw new UsageError(`--readout is "${each}"; expected ${readoutForms}`);
    return each.trim();
  });
}

/** What a result says it is of. */
export function described({ weights, data }: Subject) {
  return { weights: weights?.file ?? null, data: { train: data.train, test: data.test, size: data.evalSize } };
}

/** The data section of the evaluation: the run's, or that of the spec with the normalisation the encoder was trained with. */
async function dataFor(
  weights: Weights | null,
  { spec, test, size }: { spec: string | undefined; test: string | undefined; size: number | undefined },
): Promise<DataRecipe> {
  const { resolveData } = await import("../train/index.js");
  if (!weights) {
    if (spec === undefined || size === undefined) {
      throw new UsageError("--pixels needs the images and their size, as in --pixels --data fashion-mnist --size 28");
    }
    return resolveData({ train: spec, ...(test !== undefined && { test }) }, size);
  }
  const { encoder, recipe } = weights;
  const evalSize = size ?? recipe?.data.evalSize ?? sideOf(encoder.imageSize);
  if (spec === undefined) {
    if (!recipe) throw new UsageError("the weights belong to no run, so say on which images: --data SPEC");
    return { ...recipe.data, evalSize, ...(test !== undefined && { test, testSplit: undefined }) };
  }
  const channels = encoder.channels === 1 ? 1 : 3;
  return resolveData({ train: spec, channels, ...normalizationOf(weights), ...(test !== undefined && { test }) }, evalSize);
}

/** How the images were normalised that the encoder was trained with, where its run or its file says it. */
export function normalizationOf({ encoder, recipe, metadata }: Weights): { mean: number[]; std: number[] } | undefined {
  const made = recipe?.data ?? fromMetadata(metadata);
  return made?.mean.length === encoder.channels ? { mean: made.mean, std: made.std } : undefined;
}

/** An exported file says how its images were normalised. */
function fromMetadata({ mean, std }: Record<string, string>): { mean: number[]; std: number[] } | undefined {
  try {
    return mean && std ? { mean: JSON.parse(mean) as number[], std: JSON.parse(std) as number[] } : undefined;
  } catch {
    return undefined;
  }
}

const sideOf = (size: number | readonly [number, number]) => (typeof size === "number" ? size : Math.min(...size));
