// `tessera demo`: pre-trains on Fashion-MNIST by a built-in recipe and compares raw pixels, the random encoder and the pre-trained one by k-NN.
import { existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import type { Encoder } from "../models/index.js";
import { nearest } from "../nearest.js";
import type { Recipe } from "../train/index.js";
import { CommandError, EXIT, UsageError } from "./errors.js";
import { Counter, print, printJson, say, table } from "./output.js";
import { collect } from "./pretrain.js";
import { root } from "./project.js";
import { loadWeights } from "./weights.js";

interface DemoFlags {
  method: string;
  out?: string;
  set: string[];
  json?: boolean;
  quiet?: boolean;
}

const recipes = join(root, "recipes");

export function registerDemo(program: Command, setExit: (code: number) => void): void {
  program
    .command("demo")
    .description("pre-train on Fashion-MNIST in minutes, evaluate, draw pictures")
    .option("-m, --method <name>", `the method: ${methodNames().join(", ") || "none in this installation"}`, "mst")
    .option("-o, --out <dir>", "the run folder; a former run in it is replaced (default: runs/demo-METHOD)")
    .option("-s, --set <path=value>", "change the recipe; as often as needed", collect, [])
    .option("--json", "the result as JSON on standard output")
    .option("-q, --quiet", "no progress")
    .addHelpText(
      "after",
      `
Fashion-MNIST comes from FASHION_MNIST=DIR or Debian's package dataset-fashion-mnist; make demo installs that where it can.

Examples:
  $ tessera demo
  $ tessera demo --set train.maxSteps=500 --out /tmp/short`,
    )
    .action(async (flags: DemoFlags) => setExit(await demo(flags)));
}

function methodNames(): string[] {
  if (!existsSync(recipes)) return [];
  return readdirSync(recipes)
    .flatMap((name) => /^demo-(.+)\.ts$/.exec(name)?.[1] ?? [])
    .sort();
}

async function demo({
  method,
  out = join("runs", `demo-${method}`),
  set,
  json = false,
  quiet = false,
}: DemoFlags): Promise<number> {
  const names = methodNames();
  if (!names.includes(method)) {
    const near = nearest(method, names);
    throw new UsageError(
      `there is no demo of "${method}"; ${near ? `did you mean "${near}"? ` : ""}known: ${names.join(", ") || "none"}`,
    );
  }
  const start = performance.now();
  const train = await import("../train/index.js");
  const recipe = await train.loadRecipe(join(recipes, `demo-${method}.ts`), set);
  const compare = await comparison(recipe, quiet);
  replaceRun(out);
  try {
    const before = await compare.encoder("the random encoder", train.freshEncoder(recipe));
    const reporter = quiet ? train.silentReporter : train.streamReporter(process.stderr, { every: recipe.train.logEvery });
    const run = await train.pretrain(recipe, { out, reporter });
    if (run.status === "interrupted") {
      say(`interrupted at step ${run.step}: go on with tessera pretrain --resume --out ${out}`);
      return EXIT.interrupted;
    }
    const after = await compare.encoder("the pre-trained encoder", (await loadWeights(out)).encoder);
    const pixels = await compare.pixels();
    const { bank, queries } = after;
    const scores = { pixels: pixels.top1, random: before.top1, pretrained: after.top1 };
    const seconds = (performance.now() - start) / 1000;
    const how = { data: recipe.data.train, k: compare.k, readout: recipe.knn.readout, bank, queries };
    if (json)
      printJson({ method, ...how, top1: scores, seconds, steps: run.step, out, export: run.export, pictures: run.pictures });
    else {
      print(
        `k-NN top-1 on ${how.data}: ${queries} test images by ${bank} training images, k = ${how.k}, read-out ${how.readout}`,
      );
      const gain = scores.pretrained - scores.random;
      print(
        table(
          [
            ["features", "top-1"],
            ["raw pixels", percent(scores.pixels)],
            ["random encoder", percent(scores.random)],
            ["pre-trained encoder", `${percent(scores.pretrained)}`],
            ["gained by pre-training", `${gain < 0 ? "-" : "+"}${percent(Math.abs(gain)).trimStart()}`],
          ],
          "  ",
        ),
      );
      print(`${train.duration(seconds)} in all, ${train.duration(run.seconds)} of it pre-training (${run.step} steps)`);
      print(`run folder  ${out}`);
      print(`encoder     ${run.export}`);
      if (run.pictures.length > 0) print(`pictures    ${run.pictures.join("\n            ")}`);
    }
    return EXIT.done;
  } finally {
    await compare.close();
  }
}

const percent = (share: number) => `${(100 * share).toFixed(1)} %`;

/** A former run of the demo makes room; anything else stays. */
function replaceRun(out: string): void {
  if (!existsSync(out)) return;
  if (!existsSync(join(out, "recipe.json")) && readdirSync(out).length > 0) {
    throw new UsageError(`${out} is not empty and not the folder of a run, so it is left alone: choose another one with --out`);
  }
  rmSync(out, { recursive: true, force: true });
}

interface Score {
  top1: number;
  bank: number;
  queries: number;
}

/** k-NN over the same images for everything that is compared. */
async function comparison(recipe: Recipe, quiet: boolean) {
  const [{ evaluationPlan, knnSplits }, { KnnEvaluator, pixelFeatures, readoutOf }] = await Promise.all([
    import("../train/index.js"),
    import("../evaluate/index.js"),
  ]);
  const splits = await knnSplits(recipe);
  if (!splits) throw new CommandError(`${recipe.data.train} has no labelled training and test split, which the demo compares by`);
  const k = recipe.knn.k[0]!;
  const { bank, queries, temperature, readout } = recipe.knn;
  const plan = evaluationPlan(recipe);
  const evaluator = new KnnEvaluator({
    ...splits,
    plan,
    k: [k],
    temperature,
    ...(bank !== undefined && { bankSize: bank }),
    ...(queries !== undefined && { querySize: queries }),
  });
  const run = async (what: string, fn: Parameters<typeof evaluator.run>[0], module?: Encoder): Promise<Score> => {
    const counter = new Counter(`k-NN of ${what}`, quiet);
    const result = await evaluator.run(fn, {
      ...(module && { module }),
      onProgress: (done, total) => counter.show(done, total),
    });
    counter.end();
    const top1 = Object.values(result.readouts)[0]!.top1[k]!;
    if (!quiet) say(`k-NN of ${what}: ${percent(top1)}`);
    return { top1, bank: result.bank, queries: result.queries };
  };
  return {
    k,
    encoder: (what: string, encoder: Encoder) => run(what, readoutOf(encoder, readout), encoder),
    pixels: () => run("raw pixels", pixelFeatures(plan)),
    close: () => evaluator.close(),
  };
}
