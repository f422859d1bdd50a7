// What a classification got right and wrong, class by class: numbers, and pictures of them.
import { join } from "node:path";
import { barChart, matrixPicture, writePng } from "../draw/index.js";
import { removeTemporary, replaceText } from "../files.js";
import { EvaluateError } from "./errors.js";
import type { Confusion } from "./scores.js";

/** How one class came out. */
export interface ClassAccuracy {
  readonly name: string;
  /** Test images of the class. */
  readonly images: number;
  /** Of these, how many were taken for it. */
  readonly right: number;
  /** right / images; null without images. */
  readonly accuracy: number | null;
  /** Of the images that were taken for it, the share that are of it; null where none were. */
  readonly precision: number | null;
  /** The classes that its images were taken for instead, the most frequent first, at most five. */
  readonly takenFor: readonly { readonly name: string; readonly images: number }[];
}

export interface ClassReport {
  readonly images: number;
  /** Share of all images that were taken for their class: top-1. */
  readonly accuracy: number;
  /** Mean over the classes that have images. */
  readonly meanAccuracy: number;
  /** In the order of the class numbers. */
  readonly classes: readonly ClassAccuracy[];
}

/**
 * The numbers of a report.
 *
 * @param names of the classes, by number @param confusion how often each class (row) was taken for each (column)
 * @throws EvaluateError where they do not fit, or there are no images
 */
export function classReport(names: readonly string[], confusion: Confusion): ClassReport {
  if (confusion.length !== names.length || confusion.some((row) => row.length !== names.length)) {
    throw new EvaluateError(
      `A confusion matrix of ${confusion.length} x ${confusion[0]?.length ?? 0} for ${names.length} classes; expected a row and a column each.`,
    );
  }
  const takenAs = new Array<number>(names.length).fill(0);
  for (const row of confusion) for (const [c, count] of row.entries()) takenAs[c]! += count;
  const classes = confusion.map((row, i): ClassAccuracy => {
    const images = row.reduce((sum, count) => sum + count, 0);
    const right = row[i]!;
    const others = row.flatMap((count, c) => (c !== i && count > 0 ? [{ name: names[c]!, images: count }] : []));
    others.sort((a, b) => b.images - a.images);
    return {
      name: names[i]!,
      images,
      right,
      accuracy: images === 0 ? null : right / images,
      precision: takenAs[i] === 0 ? null : right / takenAs[i]!,
      takenFor: others.slice(0, 5),
    };
  });
  const images = classes.reduce((sum, each) => sum + each.images, 0);
  if (images === 0) throw new EvaluateError("A confusion matrix without images; expected at least one.");
  const known = classes.flatMap(({ accuracy }) => (accuracy === null ? [] : [accuracy]));
  return {
    images,
    accuracy: classes.reduce((sum, { right }) => sum + right, 0) / images,
    meanAccuracy: known.reduce((sum, each) => sum + each, 0) / known.length,
    classes,
  };
}

/** The pictures of a report: who was taken for whom, and the classes' accuracies. @param title such as `k-NN of runs/mine` */
export function classPictures(title: string, names: readonly string[], confusion: Confusion) {
  const { images, accuracy, classes } = classReport(names, confusion);
  // The number first: a title that is too long loses its end.
  const heading = `${(100 * accuracy).toFixed(2)} % of ${images} images: ${title}`;
  return {
    confusion: matrixPicture({ counts: confusion, names, title: heading, rowLabel: "class", columnLabel: "taken for" }),
    classes: barChart({
      bars: classes.map(({ name, accuracy: share, images }) => ({ name, share, note: `of ${images}` })),
      title: heading,
      reference: accuracy,
      referenceLabel: "all",
    }),
  };
}

export interface ClassReportFiles {
  /** Heads the pictures, such as `linear probe of runs/mine`. */
  title: string;
  /** Of the classes, by number. */
  names: readonly string[];
  confusion: Confusion;
  /** What result.json holds. Default: there is none. */
  result?: unknown;
}

/**
 * Writes confusion.png and classes.png, classes.json (the report with the confusion matrix) and, where there is a result, result.json: the last,
 * so that where it is, the others are. Each file is there whole or not at all.
 */
export async function writeClassReport(folder: string, { title, names, confusion, result }: ClassReportFiles): Promise<void> {
  const report = { title, ...classReport(names, confusion), confusion };
  const pictures = classPictures(title, names, confusion);
  removeTemporary(folder);
  await Promise.all(Object.entries(pictures).map(([name, picture]) => writePng(join(folder, `${name}.png`), picture)));
  replaceText(join(folder, "classes.json"), `${withRowsOnLines(report)}\n`);
  if (result !== undefined) replaceText(join(folder, "result.json"), `${JSON.stringify(result, null, 2)}\n`);
}

/** JSON with a row of the matrix a line: a thousand classes are a million lines otherwise. */
function withRowsOnLines({ confusion, ...report }: ClassReport & { confusion: Confusion }): string {
  const head = JSON.stringify(report, null, 2).replace(/\n\}$/, "");
  const rows = confusion.map((row) => `    ${JSON.stringify(row)}`);
  return `${head},\n  "confusion": [\n${rows.join(",\n")}\n  ]\n}`;
}
