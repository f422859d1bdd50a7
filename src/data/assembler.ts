// Just enough of a WebAssembly assembler to write the few inner loops of this folder as expressions, with 128-bit SIMD, and no tool
// chain to build them with. An expression is the list of its bytes; `kernels.ts` reads like the loops it encodes.
// Encodings: WebAssembly core specification 2.0, chapter 5 (binary format).

export type Code = readonly number[];

function unsigned(value: number): number[] {
  const bytes: number[] = [];
  let rest = value >>> 0;
  do {
    const byte = rest & 0x7f;
    rest >>>= 7;
    bytes.push(rest === 0 ? byte : byte | 0x80);
  } while (rest !== 0);
  return bytes;
}

function signed(value: number): number[] {
  const bytes: number[] = [];
  let rest = value | 0;
  for (;;) {
    const byte = rest & 0x7f;
    rest >>= 7;
    if ((rest === 0 && !(byte & 0x40)) || (rest === -1 && byte & 0x40)) return [...bytes, byte];
    bytes.push(byte | 0x80);
  }
}

const binary =
  (opcode: number) =>
  (a: Code, b: Code): Code => [...a, ...b, opcode];
const vector =
  (opcode: number) =>
  (...operands: Code[]): Code => [...operands.flat(), 0xfd, ...unsigned(opcode)];
/** A SIMD load: address, and a constant offset. Alignment is never promised. */
const vectorLoad =
  (opcode: number) =>
  (address: Code, offset = 0): Code => [...address, 0xfd, ...unsigned(opcode), 0, ...unsigned(offset)];

/** Eight bytes of a and b taken together from `low` on, then eight from `high` on. */
function shuffle(a: Code, b: Code, low: number, high: number): Code {
  const lanes = [low, high].flatMap((start) => Array.from({ length: 8 }, (_, i) => start + i));
  return [...a, ...b, 0xfd, 0x0d, ...lanes];
}

export const i32 = {
  const: (value: number): Code => [0x41, ...signed(value)],
  add: binary(0x6a),
  sub: binary(0x6b),
  mul: binary(0x6c),
  shl: binary(0x74),
  shr: binary(0x75),
  lt: binary(0x48),
  load: (address: Code, offset = 0): Code => [...address, 0x28, 0, ...unsigned(offset)],
  load8: (address: Code): Code => [...address, 0x2d, 0, 0],
  store8: (address: Code, value: Code): Code => [...address, ...value, 0x3a, 0, 0],
  /** `a` where the condition holds, else `b`. */
  select: (a: Code, b: Code, condition: Code): Code => [...a, ...b, ...condition, 0x1b],
};

export const v128 = {
  load: vectorLoad(0x00),
  /** Eight bytes, widened to i16x8. */
  load8x8: vectorLoad(0x02),
  /** One i32 (or f32) in all lanes. */
  loadSplat32: vectorLoad(0x09),
  /** Four bytes; the rest is zero. */
  loadZero32: vectorLoad(0x5c),
  store: (address: Code, value: Code): Code => [...address, ...value, 0xfd, 0x0b, 0, 0],
  /** Stores the lower eight bytes. */
  store64: (address: Code, value: Code): Code => [...address, ...value, 0xfd, 0x5b, 0, 0, 0],
  /** Stores the lowest four bytes. */
  store32: (address: Code, value: Code): Code => [...address, ...value, 0xfd, 0x5a, 0, 0, 0],
  and: vector(0x4e),
  or: vector(0x50),
  /** Bits of `a` where the mask is set, of `b` elsewhere. */
  select: (a: Code, b: Code, mask: Code): Code => [...a, ...b, ...mask, 0xfd, 0x52],
  /** The lower halves of a and b. */
  joinLow: (a: Code, b: Code): Code => shuffle(a, b, 0, 16),
  /** The upper half of a, in the lower half. */
  upper: (a: Code): Code => shuffle(a, a, 8, 8),
  /** Stores one byte lane. */
  store8: (address: Code, value: Code, lane: number): Code => [...address, ...value, 0xfd, 0x58, 0, 0, lane],
};

export const i16x8 = {
  fromBytesLow: vector(0x89),
  narrow: vector(0x85),
  narrowUnsigned: vector(0x86),
};
export const i8x16 = { narrowUnsigned: vector(0x66) };
export const i32x4 = {
  splat: vector(0x11),
  low: vector(0xa9),
  high: vector(0xaa),
  shr: vector(0xac),
  add: vector(0xae),
  sub: vector(0xb1),
  mul: vector(0xb5),
  fromFloat: vector(0xf8),
  eq: vector(0x37),
  min: vector(0xb6),
  max: vector(0xb8),
  /** Two doubles, cut to integers in the lower half. */
  fromDouble: vector(0xfc),
};
export const f32x4 = {
  splat: vector(0x13),
  add: vector(0xe4),
  mul: vector(0xe6),
  sub: vector(0xe5),
  div: vector(0xe7),
  fromInt: vector(0xfa),
  /** Two doubles, rounded to floats in the lower half. */
  fromDouble: vector(0x5e),
};
export const f64x2 = {
  /** The same number in both lanes. */
  const: (value: number): Code => [0x44, ...new Uint8Array(Float64Array.of(value).buffer), 0xfd, 0x14],
  add: vector(0xf0),
  sub: vector(0xf1),
  mul: vector(0xf2),
  div: vector(0xf3),
  floor: vector(0x75),
  /** All ones where a >= b. */
  ge: vector(0x4c),
  /** The two lower floats. */
  fromFloat: vector(0x5f),
  /** The two lower integers. */
  fromInt: vector(0xfe),
};

type Type = "i32" | "f32" | "v128";
const typeCode: Record<Type, number> = { i32: 0x7f, f32: 0x7d, v128: 0x7b };

/** A local variable or parameter. */
export interface Local {
  readonly get: Code;
  set(value: Code): Code;
  /** Adds to an i32. */
  add(value: Code): Code;
}

/** A function: parameters first, then whatever locals its body asks for. */
export class Func {
  readonly #parameters: readonly Type[];
  readonly #locals: Type[] = [];
  #body: Code = [];

  constructor(parameters: readonly Type[]) {
    this.#parameters = parameters;
  }

  #at(index: number): Local {
    const get: Code = [0x20, ...unsigned(index)];
    const set = (value: Code): Code => [...value, 0x21, ...unsigned(index)];
    return { get, set, add: (value) => set(i32.add(get, value)) };
  }

  parameters(): Local[] {
    return this.#parameters.map((_, i) => this.#at(i));
  }

  local(type: Type): Local {
    this.#locals.push(type);
    return this.#at(this.#parameters.length + this.#locals.length - 1);
  }

  body(...code: Code[]): this {
    this.#body = code.flat();
    return this;
  }

  get type(): Code {
    return [0x60, ...list(this.#parameters.map((type) => [typeCode[type]])), 0];
  }

  get code(): Code {
    const body = [...list(this.#locals.map((type) => [1, typeCode[type]])), ...this.#body, 0x0b];
    return [...unsigned(body.length), ...body];
  }
}

/** A tuple of N locals. */
export type Locals<N extends number, T extends unknown[] = []> = T["length"] extends N ? T : Locals<N, [...T, Local]>;

/** Two i32x4 to eight bytes in the lower half, clamped to 0..255. */
export function toBytes(low: Code, high: Code): Code {
  const words = i16x8.narrow(low, high);
  return i8x16.narrowUnsigned(words, words);
}

/** Repeats `body` as long as the condition (an i32) is not zero; not once if it is zero at the start. */
export function loopWhile(condition: Code, ...body: Code[]): Code {
  // block { if !condition leave; loop { body; if condition repeat } }
  return [0x02, 0x40, ...condition, 0x45, 0x0d, 0, 0x03, 0x40, ...body.flat(), ...condition, 0x0d, 0, 0x0b, 0x0b];
}

function list(items: readonly Code[]): Code {
  return [...unsigned(items.length), ...items.flat()];
}

function section(id: number, content: Code): Code {
  return [id, ...unsigned(content.length), ...content];
}

/** A module that exports the functions by name, on a memory that is imported as `host.memory`. */
export function assemble(functions: Readonly<Record<string, Func>>): Uint8Array<ArrayBuffer> {
  const text = (name: string): Code => list([...Buffer.from(name)].map((byte) => [byte]));
  const all = Object.entries(functions);
  return Uint8Array.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, list(all.map(([, func]) => func.type))),
    ...section(2, list([[...text("host"), ...text("memory"), 2, 0, 0]])),
    ...section(3, list(all.map((_, i) => unsigned(i)))),
    ...section(7, list(all.map(([name], i) => [...text(name), 0, ...unsigned(i)]))),
    ...section(10, list(all.map(([, func]) => func.code))),
  ]);
}
