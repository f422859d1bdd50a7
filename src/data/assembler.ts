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

export const i32 = {
  const: (value: number): Code => [0x41, ...signed(value)],
  add: binary(0x6a),
  sub: binary(0x6b),
  mul: binary(0x6c),
  shl: binary(0x74),
  lt: binary(0x48),
  load: (address: Code, offset = 0): Code => [...address, 0x28, 0, ...unsigned(offset)],
  load8: (address: Code): Code => [...address, 0x2d, 0, 0],
};

export const v128 = {
  load: vectorLoad(0x00),
  /** Eight bytes, widened to i16x8. */
  load8x8: vectorLoad(0x02),
  /** One i32 (or f32) in all lanes. */
  loadSplat32: vectorLoad(0x09),
  /** Four bytes; the rest is zero. */
  loadZero32: vectorLoad(0x5c),
  /** Eight bytes; the rest is zero. */
  loadZero64: vectorLoad(0x5d),
  store: (address: Code, value: Code): Code => [...address, ...value, 0xfd, 0x0b, 0, 0],
  /** Stores the lower eight bytes. */
  store64: (address: Code, value: Code): Code => [...address, ...value, 0xfd, 0x5b, 0, 0, 0],
  /** Stores four bytes: lane 0 (the lowest), 1, 2 or 3. */
  store32: (address: Code, value: Code, lane: number): Code => [...address, ...value, 0xfd, 0x5a, 0, 0, lane],
  /** Sixteen bytes. */
  const: (bytes: ArrayLike<number>): Code => [0xfd, 0x0c, ...Array.from(bytes)],
  not: vector(0x4d),
  and: vector(0x4e),
  xor: vector(0x51),
  /** Bits of `a` where the mask is set, of `b` elsewhere. */
  select: (a: Code, b: Code, mask: Code): Code => [...a, ...b, ...mask, 0xfd, 0x52],
};

/** Sixteen of the 32 bytes of a and b, by number. */
function shuffle(a: Code, b: Code, bytes: readonly number[]): Code {
  return [...a, ...b, 0xfd, 0x0d, ...bytes];
}

/** Bytes by number from `start` on: one of a, one of b, and so on, `size` bytes at a time. */
function alternate(a: Code, b: Code, start: number, size: number): Code {
  const each = Array.from({ length: 8 / size }, (_, i) => Array.from({ length: size }, (_, k) => start + i * size + k));
  return shuffle(
    a,
    b,
    each.flatMap((bytes) => [...bytes, ...bytes.map((byte) => byte + 16)]),
  );
}

export const i8x16 = {
  splat: vector(0x0f),
  narrowUnsigned: vector(0x66),
  /** Byte i of the result is byte `order[i]` of a, or 0 for an order of 128 or more. */
  swizzle: (a: Code, order: ArrayLike<number>): Code => [...a, ...v128.const(order), 0xfd, 0x0e],
  /** The lower eight bytes of a and b in turn. */
  mixLow: (a: Code, b: Code): Code => alternate(a, b, 0, 1),
  mixHigh: (a: Code, b: Code): Code => alternate(a, b, 8, 1),
};
export const i16x8 = {
  /** The same number in all lanes. */
  const: (value: number): Code => v128.const(new Uint8Array(Int16Array.from({ length: 8 }, () => value).buffer)),
  /** Two numbers in turn. */
  pairs: (even: number, odd: number): Code =>
    v128.const(new Uint8Array(Int16Array.from({ length: 8 }, (_, i) => (i % 2 === 0 ? even : odd)).buffer)),
  splat: vector(0x10),
  fromBytesLow: vector(0x89),
  fromBytesHigh: vector(0x8a),
  narrow: vector(0x85),
  abs: vector(0x80),
  add: vector(0x8e),
  sub: vector(0x91),
  mul: vector(0x95),
  min: vector(0x96),
  max: vector(0x98),
  eq: vector(0x2d),
  /** The lower four lanes of a and b in turn. */
  mixLow: (a: Code, b: Code): Code => alternate(a, b, 0, 2),
  mixHigh: (a: Code, b: Code): Code => alternate(a, b, 8, 2),
};
export const i32x4 = {
  const: (value: number): Code => v128.const(new Uint8Array(Int32Array.from({ length: 4 }, () => value).buffer)),
  splat: vector(0x11),
  /** The lower four of eight unsigned 16-bit lanes. */
  low: vector(0xa9),
  high: vector(0xaa),
  /** The lower four of eight signed 16-bit lanes. */
  lowSigned: vector(0xa7),
  highSigned: vector(0xa8),
  shl: vector(0xab),
  shr: vector(0xac),
  add: vector(0xae),
  sub: vector(0xb1),
  /** Sums of the products of neighbouring signed 16-bit lanes. */
  dot: vector(0xba),
  /** Lanes 0 and 1 of a and b: a0, b0, a1, b1. */
  mixLow: (a: Code, b: Code): Code => alternate(a, b, 0, 4),
  /** The lower halves of a and b. */
  joinLow: (a: Code, b: Code): Code => alternate(a, b, 0, 8),
  joinHigh: (a: Code, b: Code): Code => alternate(a, b, 8, 8),
};
export const f32x4 = {
  const: (value: number): Code => v128.const(new Uint8Array(Float32Array.from({ length: 4 }, () => value).buffer)),
  splat: vector(0x13),
  floor: vector(0x68),
  trunc: vector(0x69),
  add: vector(0xe4),
  sub: vector(0xe5),
  mul: vector(0xe6),
  div: vector(0xe7),
  /** All ones where a < b. */
  lt: vector(0x43),
  fromInt: vector(0xfa),
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
