// `tessera evaluate coco`: COCO's measures of a results file, whatever made it.
import type { Command } from "commander";
import type { CocoEvaluation, CocoKind } from "../evaluate/index.js";
import { EXIT, UsageError } from "./errors.js";
import { print, printJson, table } from "./output.js";

interface CocoFlags {
  truth: string;
  results: string;
  kind?: string;
  classes?: boolean;
  json?: boolean;
}

export function registerCoco(evaluate: Command, setExit: (code: number) => void): void {
  evaluate
    .command("coco")
    .description("COCO's box and mask AP of a results file")
    .requiredOption("--truth <file>", "annotations in COCO's format for instances")
    .requiredOption("--results <file>", "results in COCO's format: [{image_id, category_id, bbox, score, segmentation}, ...]")
    .option("--kind <name>", "box, mask or both (default: what the results have)")
    .option("--classes", "the AP of each category, too")
    .option("--json", "everything as JSON on standard output")
    .addHelpText(
      "after",
      `
The numbers are those of pycocotools. -1 stands where there is nothing to be found.

Example:
  $ tessera evaluate coco --truth instances_val2017.json --results results.json --classes`,
    )
    .action(async (flags: CocoFlags) => setExit(await evaluateCocoFile(flags)));
}

async function evaluateCocoFile({ truth: truthPath, results: resultsPath, kind, classes, json }: CocoFlags): Promise<number> {
  if (kind !== undefined && kind !== "box" && kind !== "mask" && kind !== "both") {
    throw new UsageError(`--kind is "${kind}"; expected box, mask or both`);
  }
  const { readCocoTruth } = await import("../data/index.js");
  const { evaluateCoco, readCocoResults } = await import("../evaluate/index.js");
  const truth = await readCocoTruth(truthPath);
  const results = await readCocoResults(resultsPath, truth);
  const [first] = results;
  const kinds: CocoKind[] = ["box", "mask"].filter((each): each is CocoKind => {
    if (kind !== undefined) return kind === each || kind === "both";
    if (!first) return each === "box";
    return each === "box" ? first.bbox !== undefined : first.segmentation !== undefined;
  });
  const evaluations = kinds.map((each) => evaluateCoco(truth, results, each));
  if (json) printJson(Object.fromEntries(evaluations.map((each) => [each.kind, each])));
  else {
    print(`${results.length} results for ${truth.length} images of ${truthPath}`);
    print(cocoTable(evaluations));
    if (classes) print(`\n${classTable(evaluations)}`);
  }
  return EXIT.done;
}

/** 41.2 for 0.412; a hyphen where there is nothing to be found. */
export function cocoPercent(share: number): string {
  return share < 0 ? "-" : (100 * share).toFixed(1);
}

/** COCO's twelve numbers of each evaluation in percent, one a row. */
export function cocoTable(evaluations: readonly CocoEvaluation[]): string {
  const names = Object.keys(evaluations[0]?.scores ?? {});
  const rows = evaluations.map(({ kind, scores }) => [kind, ...Object.values(scores).map(cocoPercent)]);
  return table([["", ...names], ...rows]);
}

function classTable(evaluations: readonly CocoEvaluation[]): string {
  const head = ["category", "objects", ...evaluations.flatMap(({ kind }) => [`${kind} AP`, "AP50", "AP75"])];
  const rows = evaluations[0]!.categories.map(({ name, objects }, k) => {
    const numbers = evaluations.flatMap(({ categories }) => [categories[k]!.AP, categories[k]!.AP50, categories[k]!.AP75]);
    return [name, String(objects), ...numbers.map(cocoPercent)];
  });
  return table([head, ...rows]);
}
