// `tessera evaluate knn`: how good an encoder's features are, by the classes of nearest neighbours.
import type { Command } from "commander";
import type { DataRecipe, Readout } from "../train/index.js";
import { CommandError, EXIT, UsageError } from "./errors.js";
import { Counter, print, printJson, table } from "./output.js";
import { loadWeights, type Weights } from "./weights.js";

interface KnnFlags {
  weights: string;
  data?: string;
  test?: string;
  readout?: string;
  k?: string;
  size?: string;
  heads?: string;
  bank?: string;
  queries?: string;
  temperature?: string;
  json?: boolean;
  quiet?: boolean;
}

const readouts: readonly Readout[] = ["class", "mean", "class+mean"];

export function registerEvaluate(program: Command, setExit: (code: number) => void): void {
  const evaluate = program.command("evaluate").description("measure an encoder");
  evaluate
    .command("knn")
    .description("k-NN: classify test images by their nearest training images (DINO's protocol)")
    .requiredOption("-w, --weights <path>", "a run folder or a safetensors file (timm's names)")
    .option("-d, --data <spec>", "the labelled images, such as cifar10:DIR (default: those of the run)")
    .option("--test <spec>", "the images to classify (default: the test split of --data)")
    .option("--readout <name>", `${readouts.join(", ")}; several by commas (default: the run's, else class)`)
    .option("--k <list>", "numbers of neighbours (default: 10,20,100,200)")
    .option("--size <pixels>", "side of the images (default: the run's, else what the positions are made for)")
    .option("--heads <count>", "attention heads, where neither the file nor a run says it (default: width / 64)")
    .option("--bank <count>", "only so many training images, balanced over the classes")
    .option("--queries <count>", "only so many test images, balanced over the classes")
    .option("--temperature <value>", "of the vote (default: 0.07)")
    .option("--json", "the result as JSON on standard output")
    .option("-q, --quiet", "no progress")
    .addHelpText(
      "after",
      `
Examples:
  $ tessera evaluate knn --weights runs/mine
  $ tessera evaluate knn --weights runs/mine --readout class,mean,class+mean --k 20 --bank 10000
  $ tessera evaluate knn --weights vit.safetensors --data cifar10:DIR --size 224 --json`,
    )
    .action(async (flags: KnnFlags) => setExit(await evaluateWeights(flags)));
}

async function evaluateWeights(flags: KnnFlags): Promise<number> {
  const { json = false, quiet = false } = flags;
  const wanted = flags.readout?.split(",").map(readoutNamed);
  const ks = flags.k?.split(",").map((text) => whole("--k", text));
  const size = flags.size === undefined ? undefined : whole("--size", flags.size);
  const heads = flags.heads === undefined ? undefined : whole("--heads", flags.heads);
  const bankSize = flags.bank === undefined ? undefined : whole("--bank", flags.bank);
  const querySize = flags.queries === undefined ? undefined : whole("--queries", flags.queries);
  const temperature = flags.temperature === undefined ? undefined : positive("--temperature", flags.temperature);

  const weights = await loadWeights(flags.weights, heads === undefined ? {} : { heads });
  const { encoder, recipe, file } = weights;
  const data = await dataFor(weights, { spec: flags.data, test: flags.test, size });
  if (data.evalSize % encoder.stride !== 0) {
    throw new UsageError(`--size is ${data.evalSize}; expected a multiple of the encoder's patch size, ${encoder.stride}`);
  }
  const chosen = wanted ?? [recipe && flags.data === undefined ? recipe.knn.readout : encoder.prefix === 1 ? "class" : "mean"];
  if (encoder.prefix === 0 && chosen.some((name) => name !== "mean")) {
    throw new UsageError(`the encoder has no class token; expected --readout mean`);
  }
  const [{ evaluationPlan, knnSplits, readoutOf }, { evaluateKnn }] = await Promise.all([
    import("../train/index.js"),
    import("../evaluate/index.js"),
  ]);
  if (!data.test) throw new UsageError(`${data.train} has no test split by itself; give the images to classify with --test SPEC`);
  const splits = await knnSplits({ data });
  if (!splits)
    throw new CommandError(`${data.train} and ${data.test} have no labels, which k-NN needs; give labelled images with --data`);
  const counter = new Counter("features", quiet);
  const reads = chosen.map((name) => [name, readoutOf(encoder, name)] as const);
  const result = await evaluateKnn({
    ...splits,
    plan: evaluationPlan({ data }),
    fn: (images) => Object.fromEntries(reads.map(([name, read]) => [name, read(images)])),
    module: encoder,
    onProgress: (done, total) => counter.show(done, total),
    ...(ks && { k: ks }),
    ...(temperature !== undefined && { temperature }),
    ...(bankSize !== undefined && { bankSize }),
    ...(querySize !== undefined && { querySize }),
  });
  counter.end();
  if (json) printJson({ weights: file, data: { train: data.train, test: data.test, size: data.evalSize }, ...result });
  else {
    const rows = Object.entries(result.readouts).flatMap(([name, { top1, top5 }]) =>
      Object.keys(top1).map((k) => [name, k, percent(top1[Number(k)]!), percent(top5[Number(k)]!)]),
    );
    print(`k-NN of ${file}: ${result.queries} images of ${splits.test.name} by ${result.bank} of ${splits.train.name}`);
    print(table([["read-out", "k", "top-1", "top-5"], ...rows]));
  }
  return EXIT.done;
}

/** The data section of the evaluation: the run's, or that of the spec with the normalisation the encoder was trained with. */
async function dataFor(
  { encoder, recipe, metadata }: Weights,
  { spec, test, size }: { spec: string | undefined; test: string | undefined; size: number | undefined },
): Promise<DataRecipe> {
  const { resolveData } = await import("../train/index.js");
  const evalSize = size ?? recipe?.data.evalSize ?? sideOf(encoder.imageSize);
  if (spec === undefined) {
    if (!recipe) throw new UsageError("the weights belong to no run, so say on which images: --data SPEC");
    return { ...recipe.data, evalSize, ...(test !== undefined && { test, testSplit: undefined }) };
  }
  const channels = encoder.channels === 1 ? 1 : 3;
  const made = recipe?.data ?? fromMetadata(metadata);
  const normalization = made?.mean.length === channels ? { mean: made.mean, std: made.std } : {};
  return resolveData({ train: spec, channels, ...normalization, ...(test !== undefined && { test }) }, evalSize);
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
const percent = (share: number) => `${(100 * share).toFixed(2)} %`;

function readoutNamed(text: string): Readout {
  const found = readouts.find((name) => name === text.trim());
  if (!found) throw new UsageError(`--readout is "${text}"; expected ${readouts.join(", ")}`);
  return found;
}

function whole(option: string, text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isInteger(value) || value < 1)
    throw new UsageError(`${option} is "${text}"; expected a whole number, 1 or more`);
  return value;
}

function positive(option: string, text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !(value > 0) || !Number.isFinite(value))
    throw new UsageError(`${option} is "${text}"; expected a number above 0`);
  return value;
}
