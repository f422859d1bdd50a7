// The loops of resampling and blur as WebAssembly: 8-bit pixels and 16-bit weights, whose products are summed in pairs to 32 bits; the
// weights of resampling have 22 bits and come in two parts, summed apart. Up to 16 bytes past the end of a row may be read and written.
import { type Code, Func, i8x16, i16x8, i32, i32x4, type Local, type Locals, loopWhile, toBytes, v128 } from "./assembler.js";
import { FILTER_BITS, LOWER_BITS } from "./filter-taps.js";

const { const: int, add, mul, shl } = i32;

/** No byte: gives 0 in a swizzle. */
const NONE = 255;
/** Red, green and blue of two neighbouring pixels side by side as words, from pixel `first` on. */
function pairOfPixels(first: number): number[] {
  const word = (channel: number, pixel: number): number[] => [3 * (first + pixel) + channel, NONE];
  return [0, 1, 2].flatMap((channel) => [...word(channel, 0), ...word(channel, 1)]).concat([NONE, NONE, NONE, NONE]);
}
/** Four RGBx pixels to four reds, four greens and four blues. */
const TO_PLANES = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];

/** A sum of products by weights, in two parts. */
interface Sum {
  readonly upper: Local;
  readonly lower: Local;
}

function createSum(f: Func): Sum {
  return { upper: f.local("v128"), lower: f.local("v128") };
}

/** What the parts add up to, rounded and shifted. */
function whole(upper: Code, lower: Code): Code {
  const sum = i32x4.add(i32x4.shl(upper, int(LOWER_BITS)), lower);
  return i32x4.shr(i32x4.add(sum, i32x4.const(1 << (FILTER_BITS - 1))), int(FILTER_BITS));
}

/** Adds four taps at `pixel` to a sum; their weights are at `weight` + `offset`. `free` vectors may be used. */
type Reach = (pixel: Local, sum: Sum, weight: Local, offset: number, free: Locals<2>) => Code[];
type Store = (sums: Sum[], to: Local, plane: Local) => Code[];

/**
 * Rows to fewer or more columns, four outputs at a time:
 * (source, pitch, height, first, weights, quads, width, out, outPitch, plane).
 * `first`: for each output the byte where its filter starts. `weights`: for each two outputs, for each four taps, 2 x (4 + 4) words. (Two
 * outputs at a time are what the engine keeps in registers; with more it spills.)
 */
function filterRows(pixelBytes: number, reach: Reach, store: Store): Func {
  const f = new Func(Array(10).fill("i32"));
  const [source, pitch, height, first, weights, quads, width, out, outPitch, plane] = f.parameters() as Locals<10>;
  const [x, y, entry, weight, end, to, left, right] = Array.from({ length: 8 }, () => f.local("i32")) as Locals<8>;
  const sums = Array.from({ length: 4 }, () => createSum(f));
  const free = [f.local("v128"), f.local("v128")] as Locals<2>;
  const twoOutputs = (at: 0 | 2): Code[] => {
    const [a, b] = [sums[at]!, sums[at + 1]!];
    return [
      left.set(add(source.get, i32.load(entry.get, 4 * at))),
      right.set(add(source.get, i32.load(entry.get, 4 * at + 4))),
      ...[a.upper, a.lower, b.upper, b.lower].map((part) => part.set(i32x4.const(0))),
      end.set(add(weight.get, shl(quads.get, int(5)))),
      loopWhile(
        i32.lt(weight.get, end.get),
        ...reach(left, a, weight, 0, free),
        ...reach(right, b, weight, 16, free),
        left.add(int(4 * pixelBytes)),
        right.add(int(4 * pixelBytes)),
        weight.add(int(32)),
      ),
    ];
  };
  return f.body(
    loopWhile(
      i32.lt(y.get, height.get),
      x.set(int(0)),
      entry.set(first.get),
      weight.set(weights.get),
      loopWhile(
        i32.lt(x.get, width.get),
        ...twoOutputs(0),
        ...twoOutputs(2),
        to.set(add(out.get, x.get)),
        ...store(sums, to, plane),
        entry.add(int(16)),
        x.add(int(4)),
      ),
      source.add(pitch.get),
      out.add(outPitch.get),
      y.add(int(1)),
    ),
  );
}

/** `filterRows` of interleaved RGB to three planes. */
export function filterRgb(): Func {
  const reach: Reach = (pixel, { upper, lower }, weight, offset, [first, second]) => {
    const products = (pair: Local, from: number): Code => i32x4.dot(pair.get, v128.loadSplat32(weight.get, offset + from));
    return [
      first.set(v128.load(pixel.get)),
      second.set(i8x16.swizzle(first.get, pairOfPixels(2))),
      first.set(i8x16.swizzle(first.get, pairOfPixels(0))),
      upper.set(i32x4.add(upper.get, i32x4.add(products(first, 0), products(second, 4)))),
      lower.set(i32x4.add(lower.get, i32x4.add(products(first, 8), products(second, 12)))),
    ];
  };
  return filterRows(3, reach, (sums, to, plane) => {
    const [a, b, c, d] = sums.map(({ upper, lower }) => whole(upper.get, lower.get)) as [Code, Code, Code, Code];
    const bytes = i8x16.narrowUnsigned(i16x8.narrow(a, b), i16x8.narrow(c, d));
    const result = sums[0]!.upper;
    return [
      result.set(i8x16.swizzle(bytes, TO_PLANES)),
      v128.store32(to.get, result.get, 0),
      to.add(plane.get),
      v128.store32(to.get, result.get, 1),
      to.add(plane.get),
      v128.store32(to.get, result.get, 2),
    ];
  });
}

/** `filterRows` of one channel. */
export function filterGrey(): Func {
  const reach: Reach = (pixel, { upper, lower }, weight, offset, [words]) => {
    const products = (from: number): Code => i32x4.dot(words.get, v128.loadZero64(weight.get, offset + from));
    return [
      words.set(i16x8.fromBytesLow(v128.loadZero32(pixel.get))),
      upper.set(i32x4.add(upper.get, products(0))),
      lower.set(i32x4.add(lower.get, products(8))),
    ];
  };
  return filterRows(1, reach, (sums, to) => {
    // Each sum stands in two lanes.
    const joined = (part: "upper" | "lower"): Code => {
      const [a, b, c, d] = sums.map((sum) => sum[part].get) as [Code, Code, Code, Code];
      const [low, high] = [i32x4.mixLow(a, b), i32x4.mixLow(c, d)];
      return i32x4.add(i32x4.joinLow(low, high), i32x4.joinHigh(low, high));
    };
    const result = sums[0]!.upper;
    return [result.set(whole(joined("upper"), joined("lower"))), v128.store32(to.get, toBytes(result.get, result.get), 0)];
  });
}

/**
 * One plane to fewer or more rows: (source, pitch, first, weights, pairs, height, width, out). `first`: for each output the row where its
 * filter starts. `weights`: for each output, for each two taps, 2 + 2 words. Output rows have no gaps.
 */
export function filterColumns(): Func {
  const f = new Func(Array(8).fill("i32"));
  const [source, pitch, first, weights, pairs, height, width, out] = f.parameters() as Locals<8>;
  const [x, y, pixel, weight, end, start] = Array.from({ length: 6 }, () => f.local("i32")) as Locals<6>;
  const [above, below, upper, lower] = Array.from({ length: 4 }, () => f.local("v128")) as Locals<4>;
  const sums = Array.from({ length: 4 }, () => createSum(f));
  const addTo = (sum: Sum, words: Code): Code[] => [
    sum.upper.set(i32x4.add(sum.upper.get, i32x4.dot(words, upper.get))),
    sum.lower.set(i32x4.add(sum.lower.get, i32x4.dot(words, lower.get))),
  ];
  const [a, b, c, d] = sums.map((sum) => whole(sum.upper.get, sum.lower.get)) as [Code, Code, Code, Code];
  const [low, high] = [i8x16.mixLow(above.get, below.get), i8x16.mixHigh(above.get, below.get)];
  return f.body(
    loopWhile(
      i32.lt(y.get, height.get),
      start.set(add(source.get, mul(i32.load(add(first.get, shl(y.get, int(2)))), pitch.get))),
      end.set(add(weights.get, shl(pairs.get, int(3)))),
      x.set(int(0)),
      loopWhile(
        i32.lt(x.get, width.get),
        pixel.set(add(start.get, x.get)),
        weight.set(weights.get),
        ...sums.flatMap((sum) => [sum.upper.set(i32x4.const(0)), sum.lower.set(i32x4.const(0))]),
        loopWhile(
          i32.lt(weight.get, end.get),
          above.set(v128.load(pixel.get)),
          pixel.add(pitch.get),
          below.set(v128.load(pixel.get)),
          pixel.add(pitch.get),
          upper.set(v128.loadSplat32(weight.get)),
          lower.set(v128.loadSplat32(weight.get, 4)),
          ...addTo(sums[0]!, i16x8.fromBytesLow(low)),
          ...addTo(sums[1]!, i16x8.fromBytesHigh(low)),
          ...addTo(sums[2]!, i16x8.fromBytesLow(high)),
          ...addTo(sums[3]!, i16x8.fromBytesHigh(high)),
          weight.add(int(8)),
        ),
        v128.store(add(out.get, x.get), i8x16.narrowUnsigned(i16x8.narrow(a, b), i16x8.narrow(c, d))),
        x.add(int(16)),
      ),
      out.add(width.get),
      weights.set(end.get),
      y.add(int(1)),
    ),
  );
}

/** Rows with their end pixels repeated `radius` times on both sides: (source, width, height, radius, out, outPitch). */
export function padRows(): Func {
  const f = new Func(Array(6).fill("i32"));
  const [source, width, height, radius, out, outPitch] = f.parameters() as Locals<6>;
  const [x, y] = [f.local("i32"), f.local("i32")];
  const edge = f.local("v128");
  const inner = add(out.get, radius.get);
  // Each part may write over the start of the next, which is written later.
  const repeat = (pixel: Code, to: Code): Code[] => [
    edge.set(i8x16.splat(i32.load8(pixel))),
    x.set(int(0)),
    loopWhile(i32.lt(x.get, radius.get), v128.store(add(to, x.get), edge.get), x.add(int(16))),
  ];
  return f.body(
    loopWhile(
      i32.lt(y.get, height.get),
      ...repeat(source.get, out.get),
      x.set(int(0)),
      loopWhile(i32.lt(x.get, width.get), v128.store(add(inner, x.get), v128.load(add(source.get, x.get))), x.add(int(16))),
      ...repeat(add(source.get, i32.sub(width.get, int(1))), add(inner, width.get)),
      source.add(width.get),
      out.add(outPitch.get),
      y.add(int(1)),
    ),
  );
}

/**
 * A symmetric filter along rows or columns: (source, pitch, step, radius, weights, width, height, out, outPitch), where `step` is the
 * distance of neighbours in bytes and `weights` holds `radius + 1` words in twos, from the middle outwards. From bytes to 16 bits
 * (`first`), or from 16 bits to bytes.
 */
function symmetric(first: boolean, shift: number): Func {
  const f = new Func(Array(9).fill("i32"));
  const [source, pitch, step, radius, weights, width, height, out, outPitch] = f.parameters() as Locals<9>;
  const [x, y, center, distance, weight, end] = Array.from({ length: 6 }, () => f.local("i32")) as Locals<6>;
  const [low, high, left, right, factor] = Array.from({ length: 5 }, () => f.local("v128")) as Locals<5>;
  const load = (address: Code): Code => (first ? v128.load8x8(address) : v128.load(address));
  const half = i32x4.const(1 << (shift - 1));
  const addBoth = (a: Code, b: Code): Code[] => [
    low.set(i32x4.add(low.get, i32x4.dot(i16x8.mixLow(a, b), factor.get))),
    high.set(i32x4.add(high.get, i32x4.dot(i16x8.mixHigh(a, b), factor.get))),
  ];
  const [a, b] = [i32x4.shr(low.get, int(shift)), i32x4.shr(high.get, int(shift))];
  return f.body(
    loopWhile(
      i32.lt(y.get, height.get),
      x.set(int(0)),
      loopWhile(
        i32.lt(x.get, width.get),
        center.set(add(source.get, first ? x.get : shl(x.get, int(1)))),
        left.set(load(center.get)),
        factor.set(v128.loadSplat32(weights.get)),
        low.set(half),
        high.set(half),
        // The middle counts once: its partner is nothing.
        ...addBoth(left.get, i16x8.const(0)),
        distance.set(step.get),
        weight.set(add(weights.get, int(4))),
        end.set(add(weight.get, shl(radius.get, int(2)))),
        loopWhile(
          i32.lt(weight.get, end.get),
          left.set(load(i32.sub(center.get, distance.get))),
          right.set(load(add(center.get, distance.get))),
          factor.set(v128.loadSplat32(weight.get)),
          ...addBoth(left.get, right.get),
          distance.add(step.get),
          weight.add(int(4)),
        ),
        first
          ? v128.store(add(out.get, shl(x.get, int(1))), i16x8.narrow(a, b))
          : v128.store64(add(out.get, x.get), toBytes(a, b)),
        x.add(int(8)),
      ),
      source.add(pitch.get),
      out.add(outPitch.get),
      y.add(int(1)),
    ),
  );
}

/** Weights of blur are in units of 2^-15; between the passes values are in units of 2^-7. */
export const BLUR_WEIGHT_BITS = 15;
const BETWEEN_BITS = 7;

/** The first pass of blur. */
export function blurRows(): Func {
  return symmetric(true, BLUR_WEIGHT_BITS - BETWEEN_BITS);
}

/** The second pass of blur. */
export function blurColumns(): Func {
  return symmetric(false, BLUR_WEIGHT_BITS + BETWEEN_BITS);
}
