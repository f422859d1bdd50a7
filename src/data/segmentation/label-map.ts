// From the numbers in a mask to classes.
import { DataError } from "../errors.js";
import { IGNORE_LABEL } from "./plan.js";

/** A class that a number in a mask stands for; in the order of classes. */
export interface PixelClass {
  /** The number in the mask. */
  readonly value: number;
  readonly name: string;
}

export interface LabelMapOptions {
  /** Numbers that stand for no class, beside 255. */
  ignore?: readonly number[];
  /** All numbers but those that are given stand for no class (Cityscapes' labelIds); else they are an error. Default false. */
  othersIgnored?: boolean;
}

/** The number has no meaning. */
export const UNKNOWN = -1;

/** Class, IGNORE_LABEL or UNKNOWN by number: plain data for threads. */
export interface LabelMap {
  readonly classes: readonly string[];
  /** Of the numbers 0 to 255; larger ones are in `larger`. */
  readonly small: readonly number[];
  readonly larger: Readonly<Record<number, number>>;
  /** What becomes of numbers that are nowhere else. */
  readonly rest: number;
}

/** @throws DataError when there are too many classes, or a number stands for two things */
export function labelMap(classes: readonly PixelClass[], { ignore = [], othersIgnored = false }: LabelMapOptions = {}): LabelMap {
  if (classes.length < 2) throw new DataError(`Segmentation of ${classes.length} classes; expected 2 or more.`);
  if (classes.length > IGNORE_LABEL)
    throw new DataError(`Segmentation of ${classes.length} classes; expected at most ${IGNORE_LABEL}.`);
  const rest = othersIgnored ? IGNORE_LABEL : UNKNOWN;
  const small = new Array<number>(256).fill(rest);
  const larger: Record<number, number> = {};
  const set = (value: number, label: number): void => {
    if (!Number.isInteger(value) || value < 0 || value > 65535) {
      throw new DataError(`A mask cannot hold the number ${value}; expected 0 to 65535.`);
    }
    const before = value < 256 ? small[value] : larger[value];
    if (before !== undefined && before !== rest && before !== label) {
      const said = (each: number) => (each === IGNORE_LABEL ? "no class" : `the class ${classes[each]!.name}`);
      throw new DataError(
        `The number ${value} of masks stands for ${said(before)} and for ${said(label)}; expected one of them.`,
      );
    }
    if (value < 256) small[value] = label;
    else larger[value] = label;
  };
  for (const [label, { value }] of classes.entries()) set(value, label);
  if (small[IGNORE_LABEL] === rest) small[IGNORE_LABEL] = IGNORE_LABEL;
  for (const value of ignore) set(value, IGNORE_LABEL);
  return { classes: classes.map(({ name }) => name), small, larger, rest };
}

/** Classes for a mask's numbers. `unknown` is the place of the first number without a meaning, or -1. */
export function mapLabels(data: Uint8Array | Uint16Array, map: LabelMap): { labels: Uint8Array; unknown: number } {
  const { small, larger, rest } = map;
  const labels = new Uint8Array(data.length);
  for (let i = 0; i < data.length; i++) {
    const value = data[i]!;
    const label = value < 256 ? small[value]! : (larger[value] ?? rest);
    if (label === UNKNOWN) return { labels, unknown: i };
    labels[i] = label;
  }
  return { labels, unknown: -1 };
}

/**
 * The classes of a text: a name a line, numbered from `first`, or on every line a number and a name. Empty lines and what follows a # at the start
 * of a line are left out.
 *
 * @throws DataError with the line, for a number that is given twice, or lines of both kinds
 */
export function classesOfText(text: string, path: string, first = 0): PixelClass[] {
  const lines = text.split(/\r?\n/).map((line, i) => ({ text: line.trim(), number: i + 1 }));
  const used = lines.filter((line) => line.text !== "" && !line.text.startsWith("#"));
  const numbered = used.map((line) => /^(\d+)\s*[\s:,;]\s*(\S.*)$/.exec(line.text));
  const some = numbered.filter(Boolean).length;
  if (some === 0) return used.map(({ text: name }, i) => ({ value: first + i, name }));
  if (some < used.length) {
    const wrong = used[numbered.indexOf(null)]!;
    throw new DataError(
      `${path}, line ${wrong.number}: "${wrong.text.slice(0, 60)}" has no number before its name, as other lines have.`,
    );
  }
  const seen = new Map<number, number>();
  return numbered.map((match, i) => {
    const value = Number(match![1]);
    const before = seen.get(value);
    if (before !== undefined)
      throw new DataError(`${path}, line ${used[i]!.number}: the number ${value} was given on line ${before}.`);
    seen.set(value, used[i]!.number);
    return { value, name: match![2]! };
  });
}
