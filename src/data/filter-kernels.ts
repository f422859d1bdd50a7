// The loops of resampling and blur as WebAssembly: 8-bit pixels and 16-bit weights, whose products are summed in pairs to 32 bits. Up to
// 16 bytes past the end of a row may be read and written.
import { type Code, Func, i8x16, i16x8, i32, i32x4, type Local, type Locals, loopWhile, toBytes, v128 } from "./assembler.js";

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

/** Half of what is shifted away, so that the shift rounds. */
function halfOf(bits: Local): Code {
  return i32x4.splat(shl(int(1), i32.sub(bits.get, int(1))));
}

/** Adds four taps at `pixel` to a sum; their weights are at `weight` + `offset`. */
type Reach = (pixel: Local, sum: Local, weight: Local, offset: number) => Code;
type Store = (sums: Local[], to: Local, plane: Local, bits: Local) => Code[];

/**
 * Rows to fewer or more columns, four outputs at a time:
 * (source, pitch, height, first, weights, quads, width, out, outPitch, plane, bits).
 * `first`: for each output the byte where its filter starts. `weights`: for each two outputs, for each four taps, 2 x 4 words. (Two outputs
 * at a time are what the engine keeps in registers; with more it spills.)
 */
function filterRows(pixelBytes: number, reach: Reach, store: Store): Func {
  const f = new Func(Array(11).fill("i32"));
  const [source, pitch, height, first, weights, quads, width, out, outPitch, plane, bits] = f.parameters() as Locals<11>;
  const [x, y, entry, weight, end, to, left, right] = Array.from({ length: 8 }, () => f.local("i32")) as Locals<8>;
  const sums = Array.from({ length: 4 }, () => f.local("v128"));
  const twoOutputs = (at: 0 | 2): Code[] => {
    const [a, b] = [sums[at]!, sums[at + 1]!];
    return [
      left.set(add(source.get, i32.load(entry.get, 4 * at))),
      right.set(add(source.get, i32.load(entry.get, 4 * at + 4))),
      a.set(i32x4.const(0)),
      b.set(i32x4.const(0)),
      end.set(add(weight.get, shl(quads.get, int(4)))),
      loopWhile(
        i32.lt(weight.get, end.get),
        reach(left, a, weight, 0),
        reach(right, b, weight, 8),
        left.add(int(4 * pixelBytes)),
        right.add(int(4 * pixelBytes)),
        weight.add(int(16)),
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
        ...store(sums, to, plane, bits),
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
  const reach: Reach = (pixel, sum, weight, offset) => {
    const read = v128.load(pixel.get);
    const pair = (k: number): Code =>
      i32x4.dot(i8x16.swizzle(read, pairOfPixels(2 * k)), v128.loadSplat32(weight.get, offset + 4 * k));
    return sum.set(i32x4.add(sum.get, i32x4.add(pair(0), pair(1))));
  };
  return filterRows(3, reach, (sums, to, plane, bits) => {
    const [a, b, c, d] = sums.map((sum) => i32x4.shr(i32x4.add(sum.get, halfOf(bits)), bits.get)) as [Code, Code, Code, Code];
    const bytes = i8x16.narrowUnsigned(i16x8.narrow(a, b), i16x8.narrow(c, d));
    const result = sums[0]!;
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
  const reach: Reach = (pixel, sum, weight, offset) => {
    const words = i16x8.fromBytesLow(v128.loadZero32(pixel.get));
    return sum.set(i32x4.add(sum.get, i32x4.dot(words, v128.loadZero64(weight.get, offset))));
  };
  return filterRows(1, reach, ([a, b, c, d], to, _, bits) => {
    // Each sum stands in two lanes.
    const [low, high] = [i32x4.mixLow(a!.get, b!.get), i32x4.mixLow(c!.get, d!.get)];
    const sum = i32x4.add(i32x4.joinLow(low, high), i32x4.joinHigh(low, high));
    const result = i32x4.shr(i32x4.add(sum, halfOf(bits)), bits.get);
    return [a!.set(result), v128.store32(to.get, toBytes(a!.get, a!.get), 0)];
  });
}

/**
 * One plane to fewer or more rows: (source, pitch, first, weights, pairs, height, width, out, bits). `first`: for each output the row where
 * its filter starts. `weights`: for each output, for each two taps, two words. Output rows have no gaps.
 */
export function filterColumns(): Func {
  const f = new Func(Array(9).fill("i32"));
  const [source, pitch, first, weights, pairs, height, width, out, bits] = f.parameters() as Locals<9>;
  const [x, y, pixel, weight, end, start] = Array.from({ length: 6 }, () => f.local("i32")) as Locals<6>;
  const [above, below, mixed, factor, half] = Array.from({ length: 5 }, () => f.local("v128")) as Locals<5>;
  const sums = Array.from({ length: 4 }, () => f.local("v128"));
  const addTo = (sum: Local, words: Code): Code => sum.set(i32x4.add(sum.get, i32x4.dot(words, factor.get)));
  const [a, b, c, d] = sums.map((sum) => i32x4.shr(sum.get, bits.get)) as [Code, Code, Code, Code];
  return f.body(
    half.set(halfOf(bits)),
    loopWhile(
      i32.lt(y.get, height.get),
      start.set(add(source.get, mul(i32.load(add(first.get, shl(y.get, int(2)))), pitch.get))),
      end.set(add(weights.get, shl(pairs.get, int(2)))),
      x.set(int(0)),
      loopWhile(
        i32.lt(x.get, width.get),
        pixel.set(add(start.get, x.get)),
        weight.set(weights.get),
        ...sums.map((sum) => sum.set(half.get)),
        loopWhile(
          i32.lt(weight.get, end.get),
          above.set(v128.load(pixel.get)),
          pixel.add(pitch.get),
          below.set(v128.load(pixel.get)),
          pixel.add(pitch.get),
          factor.set(v128.loadSplat32(weight.get)),
          mixed.set(i8x16.mixLow(above.get, below.get)),
          addTo(sums[0]!, i16x8.fromBytesLow(mixed.get)),
          addTo(sums[1]!, i16x8.fromBytesHigh(mixed.get)),
          mixed.set(i8x16.mixHigh(above.get, below.get)),
          addTo(sums[2]!, i16x8.fromBytesLow(mixed.get)),
          addTo(sums[3]!, i16x8.fromBytesHigh(mixed.get)),
          weight.add(int(4)),
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
