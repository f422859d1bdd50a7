// `tessera data verify SPEC`: reads every image of a dataset and lists those that cannot be used.
import type { Command } from "commander";
import { EXIT, UsageError } from "./errors.js";
import { Counter, print, printJson, say } from "./output.js";

interface VerifyFlags {
  split?: string;
  json?: boolean;
  quiet?: boolean;
}

export function registerData(program: Command, setExit: (code: number) => void): void {
  const data = program.command("data").description("look at datasets");
  data
    .command("verify")
    .description("read every image of a dataset and list those that cannot be used")
    .argument("<spec>", "fashion-mnist, cifar10:DIR, cifar100:DIR, folder:DIR, coco:ANNOTATIONS.json,DIR")
    .option("--split <name>", "train or test (default: what the spec says, else train)")
    .option("--json", "the result as JSON on standard output")
    .option("-q, --quiet", "no progress")
    .addHelpText(
      "after",
      `
Each bad image is one line, its path and what is wrong with it. Exit code 1 when there is any: training skips and counts them.

Examples:
  $ tessera data verify folder:/images
  $ tessera data verify cifar10:/data/cifar-10-batches-bin --split test --json
  $ tessera data verify coco:/coco/annotations/instances_val2017.json,/coco/val2017`,
    )
    .action(async (spec: string, flags: VerifyFlags) => setExit(await verify(spec, flags)));
}

async function verify(spec: string, { split, json = false, quiet = false }: VerifyFlags): Promise<number> {
  if (split !== undefined && split !== "train" && split !== "test") {
    throw new UsageError(`--split is "${split}"; expected train or test`);
  }
  const { openDataset, verifyDataset } = await import("../data/index.js");
  const dataset = await openDataset(spec, split === undefined ? {} : { split });
  if (!json && !quiet) for (const note of dataset.notes ?? []) say(`note: ${note}`);
  const counter = new Counter(`reading ${dataset.name}`, quiet);
  const { total, bad } = await verifyDataset(dataset, {
    onProgress: (done, all, wrong) => counter.show(done, all, wrong > 0 ? `, ${wrong} bad` : ""),
  });
  counter.end();
  if (json) printJson({ spec, name: dataset.name, total, bad, ...(dataset.notes && { notes: dataset.notes }) });
  else {
    for (const { path, reason } of bad) print(`${path}: ${reason}`);
    print(`${dataset.name}: ${total} images, ${bad.length === 0 ? "all good" : `${bad.length} bad`}`);
  }
  return bad.length === 0 ? EXIT.done : EXIT.failed;
}
