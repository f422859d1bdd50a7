// `tessera evaluate knn`: how good an encoder's features are, by the classes of nearest neighbours.
import type { Command } from "commander";
import type { Tensor } from "../torch/index.js";
import { EXIT, UsageError } from "./errors.js";
import { described, openSubject, readoutsFor, readoutsNamed, type SubjectFlags, subjectOptions } from "./evaluate-subject.js";
import { listed, percent, positive, whole } from "./numbers.js";
import { Counter, print, printJson, table } from "./output.js";

interface KnnFlags extends SubjectFlags {
  readout?: string;
  k?: string;
  bank?: string;
  queries?: string;
  temperature?: string;
  json?: boolean;
  quiet?: boolean;
}

export function registerKnn(evaluate: Command, setExit: (code: number) => void): void {
  subjectOptions(
    evaluate.command("knn").description("k-NN: classify test images by their nearest training images (DINO's protocol)"),
  )
    .option("--readout <name>", "class, mean, class+mean, class:N, level:I; several by commas (default: the run's, else class)")
    .option("--k <list>", "numbers of neighbours (default: 10,20,100,200)")
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
    .action(async (flags: KnnFlags) => setExit(await evaluateKnnOf(flags)));
}

async function evaluateKnnOf(flags: KnnFlags): Promise<number> {
  const { json = false, quiet = false } = flags;
  if (flags.pixels && flags.readout !== undefined) throw new UsageError("--readout is of an encoder, but --pixels has none");
  if (flags.readout !== undefined) await readoutsNamed(flags.readout);
  const ks = flags.k === undefined ? undefined : listed("--k", flags.k, whole);
  const bankSize = flags.bank === undefined ? undefined : whole("--bank", flags.bank);
  const querySize = flags.queries === undefined ? undefined : whole("--queries", flags.queries);
  const temperature = flags.temperature === undefined ? undefined : positive("--temperature", flags.temperature);

  const subject = await openSubject(flags, "k-NN");
  const { weights, train, test, plan } = subject;
  const { evaluateKnn, pixelFeatures, readoutsOf } = await import("../evaluate/index.js");
  const fn = weights
    ? readoutsOf(weights.encoder, await readoutsFor(weights, flags))
    : (images: Tensor) => ({ pixels: pixelFeatures(plan)(images) });
  const counter = new Counter("features", quiet);
  const result = await evaluateKnn({
    train,
    test,
    plan,
    fn,
    ...(weights && { module: weights.encoder }),
    onProgress: (done, total) => counter.show(done, total),
    ...(ks && { k: ks }),
    ...(temperature !== undefined && { temperature }),
    ...(bankSize !== undefined && { bankSize }),
    ...(querySize !== undefined && { querySize }),
  });
  counter.end();
  if (json) printJson({ ...described(subject), ...result });
  else {
    const rows = Object.entries(result.readouts).flatMap(([name, { top1, top5 }]) =>
      Object.keys(top1).map((k) => [name, k, percent(top1[Number(k)]!), percent(top5[Number(k)]!)]),
    );
    print(`k-NN of ${subject.name}: ${result.queries} images of ${test.name} by ${result.bank} of ${train.name}`);
    print(table([["read-out", "k", "top-1", "top-5"], ...rows]));
  }
  return EXIT.done;
}
