// `tessera evaluate knn`: how good an encoder's features are, by the classes of nearest neighbours.
import type { Command } from "commander";
import type { Tensor } from "../torch/index.js";
import { EXIT, UsageError } from "./errors.js";
import { checkKeep, type KeepFlags, keepingIn } from "./evaluate-keep.js";
import { outOption, writeReport } from "./evaluate-report.js";
import { described, openSubject, readoutsFor, readoutsNamed, type SubjectFlags, subjectOptions } from "./evaluate-subject.js";
import { given, listed, percent, positive, whole } from "./numbers.js";
import { Counter, print, printJson, table } from "./output.js";

interface KnnFlags extends SubjectFlags, KeepFlags {
  readout?: string;
  k?: string;
  bank?: string;
  queries?: string;
  temperature?: string;
  json?: boolean;
  quiet?: boolean;
}

export function registerKnn(evaluate: Command, setExit: (code: number) => void): void {
  const command = subjectOptions(
    evaluate.command("knn").description("k-NN: classify test images by their nearest training images (DINO's protocol)"),
  )
    .option("--readout <name>", "class, mean, class+mean, class:N, level:I; several by commas (default: the run's, else class)")
    .option("--k <list>", "numbers of neighbours, several by commas at once (default: 10,20,100,200)")
    .option("--bank <count>", "only so many training images, balanced over the classes")
    .option("--queries <count>", "only so many test images, balanced over the classes")
    .option("--temperature <value>", "of the vote (default: 0.07)");
  outOption(command)
    .option("--json", "the result as JSON on standard output")
    .option("-q, --quiet", "no progress")
    .addHelpText(
      "after",
      `
Examples:
  $ tessera evaluate knn --weights runs/mine
  $ tessera evaluate knn --weights runs/mine --readout class,mean,class+mean --k 20 --bank 10000
  $ tessera evaluate knn --weights vit.safetensors --data cifar10:DIR --size 224 --out results/knn --json`,
    )
    .action(async (flags: KnnFlags) => setExit(await evaluateKnnOf(flags)));
}

async function evaluateKnnOf(flags: KnnFlags): Promise<number> {
  const { json = false, quiet = false, out } = flags;
  if (flags.pixels && flags.readout !== undefined) throw new UsageError("--readout is of an encoder, but --pixels has none");
  if (flags.readout !== undefined) await readoutsNamed(flags.readout);
  const ks = given(flags.k, (text) => listed("--k", text, whole));
  const bankSize = given(flags.bank, (text) => whole("--bank", text));
  const querySize = given(flags.queries, (text) => whole("--queries", text));
  const temperature = given(flags.temperature, (text) => positive("--temperature", text));

  checkKeep(flags);
  const subject = await openSubject(flags, "k-NN");
  const { weights, train, test, plan } = subject;
  const { evaluateKnn, pixelFeatures, readoutsOf } = await import("../evaluate/index.js");
  const wanted = weights && (await readoutsFor(weights, flags));
  const fn = weights ? readoutsOf(weights.encoder, wanted!) : (images: Tensor) => ({ pixels: pixelFeatures(plan)(images) });
  const begun = { evaluation: "k-NN", readouts: wanted, bankSize, querySize };
  await keepingIn(flags, { subject, begun }, async (keep) => {
    const counter = new Counter("features", quiet);
    const { readouts, ...sizes } = await evaluateKnn({
      confusion: out !== undefined,
      train,
      test,
      plan,
      fn,
      ...(weights && { module: weights.encoder }),
      onProgress: (done, total) => counter.show(done, total),
      ...(keep && { keep }),
      ...(ks && { k: ks }),
      ...(temperature !== undefined && { temperature }),
      ...(bankSize !== undefined && { bankSize }),
      ...(querySize !== undefined && { querySize }),
    });
    counter.end();
    // Confusion matrices have as many numbers as pairs of classes: a file's matter.
    const scores = Object.fromEntries(Object.entries(readouts).map(([name, { top1, top5 }]) => [name, { top1, top5 }]));
    const told = { ...described(subject), readouts: scores, ...sizes };
    const rows = Object.entries(scores).flatMap(([name, { top1, top5 }]) =>
      Object.keys(top1).map((k) => ({ name, k: Number(k), top1: top1[Number(k)]!, top5: top5[Number(k)]! })),
    );
    if (json) printJson(told);
    else {
      print(`k-NN of ${subject.name}: ${sizes.queries} images of ${test.name} by ${sizes.bank} of ${train.name}`);
      const cells = rows.map(({ name, k, top1, top5 }) => [name, String(k), percent(top1), percent(top5)]);
      print(table([["read-out", "k", "top-1", "top-5"], ...cells]));
    }
    if (out !== undefined) {
      const best = rows.reduce((a, b) => (b.top1 > a.top1 ? b : a));
      const title = `k-NN (${best.name}, k ${best.k}) of ${subject.name}`;
      const confusion = readouts[best.name]!.confusion![best.k]!;
      await writeReport(out, { title, names: test.classes!, confusion, result: told }, quiet);
    }
  });
  return EXIT.done;
}
