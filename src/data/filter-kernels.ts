// The loops of resampling and blur as WebAssembly: 8-bit pixels, 32-bit fixed-point weights. Several bytes past the end of a row may be
// read and written.
import { type Code, Func, i16x8, i32, i32x4, type Locals, loopWhile, toBytes, v128 } from "./assembler.js";

const { const: int, add, mul, shl } = i32;

/**
 * Rows of RGB pixels to fewer or more columns, one plane a channel:
 * (source, pitch, height, first, count, weights, tapBytes, width, out, outPitch, plane).
 */
export function filterRgb(bits: number): Func {
  const f = new Func(Array(11).fill("i32"));
  const [source, pitch, height, first, count, weights, tapBytes, width, out, outPitch, plane] = f.parameters() as Locals<11>;
  const [x, pixel, weight, end] = [f.local("i32"), f.local("i32"), f.local("i32"), f.local("i32")];
  const [y, to] = [f.local("i32"), f.local("i32")];
  const sum = f.local("v128");
  const half = i32x4.splat(int(1 << (bits - 1)));
  const wide = i32x4.low(i16x8.fromBytesLow(v128.loadZero32(pixel.get)));
  return f.body(
    loopWhile(
      i32.lt(y.get, height.get),
      x.set(int(0)),
      loopWhile(
        i32.lt(x.get, width.get),
        pixel.set(add(source.get, mul(i32.load(add(first.get, shl(x.get, int(2)))), int(3)))),
        weight.set(add(weights.get, mul(x.get, tapBytes.get))),
        end.set(add(weight.get, shl(i32.load(add(count.get, shl(x.get, int(2)))), int(2)))),
        sum.set(half),
        loopWhile(
          i32.lt(weight.get, end.get),
          sum.set(i32x4.add(sum.get, i32x4.mul(wide, v128.loadSplat32(weight.get)))),
          pixel.add(int(3)),
          weight.add(int(4)),
        ),
        sum.set(i32x4.shr(sum.get, int(bits))),
        sum.set(toBytes(sum.get, sum.get)),
        to.set(add(out.get, x.get)),
        v128.store8(to.get, sum.get, 0),
        to.add(plane.get),
        v128.store8(to.get, sum.get, 1),
        to.add(plane.get),
        v128.store8(to.get, sum.get, 2),
        x.add(int(1)),
      ),
      source.add(pitch.get),
      out.add(outPitch.get),
      y.add(int(1)),
    ),
  );
}

/** The same for one channel (no SIMD; `plane` is not used). */
export function filterGrey(bits: number): Func {
  const f = new Func(Array(11).fill("i32"));
  const [source, pitch, height, first, count, weights, tapBytes, width, out, outPitch] = f.parameters() as Locals<11>;
  const [x, pixel, weight, end] = [f.local("i32"), f.local("i32"), f.local("i32"), f.local("i32")];
  const [y, sum] = [f.local("i32"), f.local("i32")];
  const atLeast0 = sum.set(i32.select(int(0), sum.get, i32.lt(sum.get, int(0))));
  const atMost255 = sum.set(i32.select(int(255), sum.get, i32.lt(int(255), sum.get)));
  return f.body(
    loopWhile(
      i32.lt(y.get, height.get),
      x.set(int(0)),
      loopWhile(
        i32.lt(x.get, width.get),
        pixel.set(add(source.get, i32.load(add(first.get, shl(x.get, int(2)))))),
        weight.set(add(weights.get, mul(x.get, tapBytes.get))),
        end.set(add(weight.get, shl(i32.load(add(count.get, shl(x.get, int(2)))), int(2)))),
        sum.set(int(1 << (bits - 1))),
        loopWhile(
          i32.lt(weight.get, end.get),
          sum.add(mul(i32.load8(pixel.get), i32.load(weight.get))),
          pixel.add(int(1)),
          weight.add(int(4)),
        ),
        sum.set(i32.shr(sum.get, int(bits))),
        atLeast0,
        atMost255,
        i32.store8(add(out.get, x.get), sum.get),
        x.add(int(1)),
      ),
      source.add(pitch.get),
      out.add(outPitch.get),
      y.add(int(1)),
    ),
  );
}

/** One plane to fewer or more rows: (source, pitch, first, count, weights, tapBytes, height, width, out). Output rows have no gaps. */
export function filterColumns(bits: number): Func {
  const f = new Func(Array(9).fill("i32"));
  const [source, pitch, first, count, weights, tapBytes, height, width, out] = f.parameters() as Locals<9>;
  const [x, y, pixel, weight, end, start] = [0, 1, 2, 3, 4, 5].map(() => f.local("i32")) as Locals<6>;
  const [low, high, pixels, factor] = [0, 1, 2, 3].map(() => f.local("v128")) as Locals<4>;
  const half = i32x4.splat(int(1 << (bits - 1)));
  return f.body(
    loopWhile(
      i32.lt(y.get, height.get),
      start.set(add(source.get, mul(i32.load(add(first.get, shl(y.get, int(2)))), pitch.get))),
      end.set(add(weights.get, shl(i32.load(add(count.get, shl(y.get, int(2)))), int(2)))),
      x.set(int(0)),
      loopWhile(
        i32.lt(x.get, width.get),
        pixel.set(add(start.get, x.get)),
        weight.set(weights.get),
        low.set(half),
        high.set(half),
        loopWhile(
          i32.lt(weight.get, end.get),
          pixels.set(v128.load8x8(pixel.get)),
          factor.set(v128.loadSplat32(weight.get)),
          low.set(i32x4.add(low.get, i32x4.mul(i32x4.low(pixels.get), factor.get))),
          high.set(i32x4.add(high.get, i32x4.mul(i32x4.high(pixels.get), factor.get))),
          pixel.add(pitch.get),
          weight.add(int(4)),
        ),
        v128.store64(add(out.get, x.get), toBytes(i32x4.shr(low.get, int(bits)), i32x4.shr(high.get, int(bits)))),
        x.add(int(8)),
      ),
      out.add(width.get),
      weights.add(tapBytes.get),
      y.add(int(1)),
    ),
  );
}

/**
 * A symmetric filter along rows or columns: (source, pitch, step, radius, weights, width, height, out, outPitch), where `step` is the
 * distance of neighbours in bytes. From bytes to 16 bits (`first`), or from 16 bits to bytes.
 */
export function symmetric(first: boolean, shift: number): Func {
  const f = new Func(Array(9).fill("i32"));
  const [source, pitch, step, radius, weights, width, height, out, outPitch] = f.parameters() as Locals<9>;
  const [x, y, center, distance, weight, end] = [0, 1, 2, 3, 4, 5].map(() => f.local("i32")) as Locals<6>;
  const [low, high, left, right, factor] = [0, 1, 2, 3, 4].map(() => f.local("v128")) as Locals<5>;
  const load = (address: Code): Code => (first ? v128.load8x8(address) : v128.load(address));
  const half = i32x4.splat(int(1 << (shift - 1)));
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
        low.set(i32x4.add(half, i32x4.mul(i32x4.low(left.get), factor.get))),
        high.set(i32x4.add(half, i32x4.mul(i32x4.high(left.get), factor.get))),
        distance.set(step.get),
        weight.set(add(weights.get, int(4))),
        end.set(add(weight.get, shl(radius.get, int(2)))),
        loopWhile(
          i32.lt(weight.get, end.get),
          left.set(load(i32.sub(center.get, distance.get))),
          right.set(load(add(center.get, distance.get))),
          factor.set(v128.loadSplat32(weight.get)),
          low.set(i32x4.add(low.get, i32x4.mul(i32x4.add(i32x4.low(left.get), i32x4.low(right.get)), factor.get))),
          high.set(i32x4.add(high.get, i32x4.mul(i32x4.add(i32x4.high(left.get), i32x4.high(right.get)), factor.get))),
          distance.add(step.get),
          weight.add(int(4)),
        ),
        first
          ? v128.store(add(out.get, shl(x.get, int(1))), i16x8.narrowUnsigned(a, b))
          : v128.store64(add(out.get, x.get), toBytes(a, b)),
        x.add(int(8)),
      ),
      source.add(pitch.get),
      out.add(outPitch.get),
      y.add(int(1)),
    ),
  );
}
