// Which part of an encoder's output stands for the image: one notion for k-NN, probes and studies. A read-out is written as its parts, joined
// by "+" and set side by side in that order:
//
//   class      the class token after the final norm
//   class:N    the class tokens of the last N blocks, each through the final norm (DINO's linear protocol has class:4)
//   mean       the mean of the patch tokens after the final norm
//   level:I    the mean of the patch tokens that level I gives, without the final norm; negative I counts from the end
import type { Encoder } from "../models/index.js";
import { cat, type Tensor } from "../torch/index.js";
import { EvaluateError } from "./errors.js";

/** `class`, `mean`, `class+mean`, `class:4`, `class+mean+level:-4`, ... */
export type Readout = "class" | "mean" | "class+mean" | (string & {});

/** What a read-out may be, in words. */
export const readoutForms = "class, mean, class+mean, class:N or level:I, also joined by +";

type Part = { kind: "class"; last: number } | { kind: "mean" } | { kind: "level"; level: number };

function partOf(text: string): Part | undefined {
  if (text === "class") return { kind: "class", last: 1 };
  if (text === "mean") return { kind: "mean" };
  const [, kind, number] = /^(class|level):(-?\d{1,4})$/.exec(text) ?? [];
  if (kind === "level") return { kind, level: Number(number) };
  return kind === "class" && Number(number) >= 1 ? { kind, last: Number(number) } : undefined;
}

function partsOf(readout: string): Part[] | undefined {
  const parts = readout.split("+").map((text) => partOf(text.trim()));
  return parts.every((part) => part !== undefined) ? (parts as Part[]) : undefined;
}

/** True for texts that are read-outs, whatever the encoder. */
export const isReadout = (text: string): boolean => partsOf(text) !== undefined;

/** True for read-outs that an encoder without class token cannot give. */
export const needsClassToken = (readout: Readout): boolean => partsOf(readout)?.some(({ kind }) => kind === "class") ?? false;

/** What a read-out asks of an encoder. */
export type Readable = Pick<Encoder, "prefix" | "depth" | "norm">;

/** What hinders a read-out of this encoder, or undefined: `the encoder has no class token; expected mean or level:I`. */
export function readoutProblem(readout: Readout, encoder: Readable): string | undefined {
  const parts = partsOf(readout);
  if (!parts) return `"${readout}" is no read-out; expected ${readoutForms}`;
  for (const part of parts) {
    if (part.kind === "class" && encoder.prefix === 0) return "the encoder has no class token; expected mean or level:I";
    if (part.kind === "class" && part.last > encoder.depth) {
      return `the encoder has ${encoder.depth} blocks; expected at most class:${encoder.depth}`;
    }
    if (part.kind === "class" && part.last > 1 && !encoder.norm) return "the encoder has no final norm; expected class";
    if (part.kind === "level" && (part.level < -encoder.depth || part.level >= encoder.depth)) {
      return `the encoder has no level ${part.level}; expected 0 to ${encoder.depth - 1}, or -1 to -${encoder.depth}`;
    }
  }
  return undefined;
}

function checked(readout: Readout, encoder: Readable): Part[] {
  const problem = readoutProblem(readout, encoder);
  if (problem) throw new EvaluateError(`The read-out ${readout} cannot be taken: ${problem}.`);
  return partsOf(readout)!;
}

/** Images [B, C, H, W] to features [B, width]. */
export function readoutOf(encoder: Encoder, readout: Readout): (images: Tensor) => Tensor {
  const all = readoutsOf(encoder, [readout]);
  return (images) => all(images)[readout]!;
}

/**
 * Images [B, C, H, W] to several read-outs by name, of one pass through the encoder.
 *
 * @throws EvaluateError for a read-out that this encoder cannot give
 */
export function readoutsOf(encoder: Encoder, names: readonly Readout[]): (images: Tensor) => Record<string, Tensor> {
  const all = names.map((name) => [name, checked(name, encoder)] as const);
  const parts = all.flatMap(([, own]) => own);
  const classOnly = encoder.prefix === 1 && parts.every(({ kind }) => kind === "class");
  const numbers = new Set<number>();
  for (const part of parts) {
    if (part.kind === "level") numbers.add(part.level < 0 ? part.level + encoder.depth : part.level);
    // The last block's class token is the encoder's feature already.
    if (part.kind === "class") for (let i = 2; i <= part.last; i++) numbers.add(encoder.depth - i);
  }
  const levels = [...numbers].sort((a, b) => a - b);
  return (images) => {
    const { feature, patches, levels: outputs } = encoder.call(images, { classOnly, levels });
    const level = (number: number) => outputs[levels.indexOf(number < 0 ? number + encoder.depth : number)]!;
    const read = (part: Part): Tensor[] => {
      if (part.kind === "mean") return [patches!.mean(1)];
      if (part.kind === "level") return [level(part.level).slice(1, encoder.prefix).mean(1)];
      const before = Array.from({ length: part.last - 1 }, (_, i) => level(i - part.last).select(1, 0));
      return [...before.map((token) => encoder.norm!.call(token) as Tensor), feature];
    };
    return Object.fromEntries(
      all.map(([name, own]) => {
        const pieces = own.flatMap(read);
        return [name, pieces.length === 1 ? pieces[0]! : cat(pieces, 1)];
      }),
    );
  };
}
