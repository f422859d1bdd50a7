// The loops of colour changes as WebAssembly, on planes of bytes, in place, with Pillow's roundings, eight pixels at a time. Up to seven
// bytes past the end of a plane may be read and written.
import { type Code, Func, f32x4, i16x8, i32, i32x4, type Local, type Locals, loopWhile, toBytes, v128 } from "./assembler.js";

const { const: int, add } = i32;
const byHalf = [
  { ints: i32x4.low, floats: (words: Code) => f32x4.fromInt(i32x4.low(words)) },
  { ints: i32x4.high, floats: (words: Code) => f32x4.fromInt(i32x4.high(words)) },
] as const;

function vectors<N extends number>(f: Func, count: N): Locals<N> {
  return Array.from({ length: count }, () => f.local("v128")) as Locals<N>;
}

/** Adding this to a float of up to 2^22 rounds it to a whole number, which then stands in the lowest bits. */
const ROUND = f32x4.const(1.5 * 2 ** 23);
const ROUND_BITS = i32x4.const(0x4b400000);

/** Floats to the integers nearest to them. */
function rounded(value: Code): Code {
  return i32x4.sub(f32x4.add(value, ROUND), ROUND_BITS);
}

/** Luma of eight pixels (16-bit words), in 16-bit fixed point as in pixels.ts; green's weight does not fit in 16 bits and is halved twice. */
function luma([red, green, blue]: readonly Code[]): Code {
  const half = (mix: (a: Code, b: Code) => Code): Code => {
    const first = i32x4.dot(mix(red!, green!), i16x8.pairs(19595, 19235));
    const second = i32x4.dot(mix(green!, blue!), i16x8.pairs(19235, 7471));
    return i32x4.shr(i32x4.add(i32x4.add(first, second), i32x4.const(0x8000)), int(16));
  };
  return i16x8.narrow(half(i16x8.mixLow), half(i16x8.mixHigh));
}

/** Pillow's blend of eight words, in float32, cut to whole numbers. */
function blend(start: (half: 0 | 1) => Code, words: Local, from: Local, factor: Code): Code {
  const part = (half: 0 | 1): Code => {
    const difference = i16x8.sub(words.get, from.get);
    const widened = half === 0 ? i32x4.lowSigned(difference) : i32x4.highSigned(difference);
    const value = f32x4.add(start(half), f32x4.mul(factor, f32x4.fromInt(widened)));
    return rounded(f32x4.trunc(value));
  };
  return toBytes(part(0), part(1));
}

/** Blends three planes with their luma, in float32, cut to bytes: (red, green, blue, pixels, factor). */
export function blendWithLuma(): Func {
  const f = new Func(["i32", "i32", "i32", "i32", "f32"]);
  const [red, green, blue, pixels, factor] = f.parameters() as Locals<5>;
  const planes = [red, green, blue];
  const i = f.local("i32");
  const words = vectors(f, 3);
  const [grey, low, high, times] = vectors(f, 4);
  return f.body(
    times.set(f32x4.splat(factor.get)),
    loopWhile(
      i32.lt(i.get, pixels.get),
      ...planes.map((plane, c) => words[c]!.set(v128.load8x8(add(plane.get, i.get)))),
      grey.set(luma(words.map((each) => each.get))),
      low.set(byHalf[0].floats(grey.get)),
      high.set(byHalf[1].floats(grey.get)),
      ...planes.map((plane, c) =>
        v128.store64(
          add(plane.get, i.get),
          blend((half) => [low, high][half]!.get, words[c]!, grey, times.get),
        ),
      ),
      i.add(int(8)),
    ),
  );
}

/** Blends bytes with one value, in float32, cut to bytes: (address, length, value, factor). */
export function blendWithValue(): Func {
  const f = new Func(["i32", "i32", "i32", "f32"]);
  const [address, length, value, factor] = f.parameters() as Locals<4>;
  const i = f.local("i32");
  const [words, from, start, times] = vectors(f, 4);
  return f.body(
    from.set(i16x8.splat(value.get)),
    start.set(f32x4.fromInt(i32x4.splat(value.get))),
    times.set(f32x4.splat(factor.get)),
    loopWhile(
      i32.lt(i.get, length.get),
      words.set(v128.load8x8(add(address.get, i.get))),
      v128.store64(
        add(address.get, i.get),
        blend(() => start.get, words, from, times.get),
      ),
      i.add(int(8)),
    ),
  );
}

/** Three planes to their luma: (red, green, blue, pixels). */
export function toLuma(): Func {
  const f = new Func(Array(4).fill("i32"));
  const [red, green, blue, pixels] = f.parameters() as Locals<4>;
  const i = f.local("i32");
  const [grey] = vectors(f, 1);
  const planes = [red, green, blue].map((plane) => add(plane.get, i.get));
  return f.body(
    loopWhile(
      i32.lt(i.get, pixels.get),
      grey.set(luma(planes.map((at) => v128.load8x8(at)))),
      grey.set(toBytesOfWords(grey.get)),
      ...planes.map((at) => v128.store64(at, grey.get)),
      i.add(int(8)),
    ),
  );
}

function toBytesOfWords(words: Code): Code {
  return toBytes(i32x4.low(words), i32x4.high(words));
}

/** Four sums of luma, of which the total is the sum over all pixels, to `out`: (red, green, blue, pixels, out), pixels a multiple of 8. */
export function sumLuma(): Func {
  const f = new Func(Array(5).fill("i32"));
  const [red, green, blue, pixels, out] = f.parameters() as Locals<5>;
  const i = f.local("i32");
  const [grey, sum] = vectors(f, 2);
  return f.body(
    loopWhile(
      i32.lt(i.get, pixels.get),
      grey.set(luma([red, green, blue].map((plane) => v128.load8x8(add(plane.get, i.get))))),
      sum.set(i32x4.add(sum.get, i32x4.dot(grey.get, i16x8.const(1)))),
      i.add(int(8)),
    ),
    v128.store(out.get, sum.get),
  );
}

/** Bytes from `threshold` up are inverted: (address, length, threshold). */
export function solarize(): Func {
  const f = new Func(Array(3).fill("i32"));
  const [address, length, threshold] = f.parameters() as Locals<3>;
  const i = f.local("i32");
  const [words, turned, from] = vectors(f, 3);
  return f.body(
    from.set(i16x8.splat(threshold.get)),
    loopWhile(
      i32.lt(i.get, length.get),
      words.set(v128.load8x8(add(address.get, i.get))),
      turned.set(i16x8.sub(i16x8.const(255), words.get)),
      words.set(v128.select(turned.get, words.get, i16x8.eq(i16x8.max(words.get, from.get), words.get))),
      v128.store64(add(address.get, i.get), toBytesOfWords(words.get)),
      i.add(int(8)),
    ),
  );
}

/**
 * Turns the hue of three planes by `shift` of 255: (red, green, blue, pixels, shift). To Pillow's 8-bit HSV and back.
 *
 * There, hue and saturation are cut to 8 bits, and a hue off by one is a visible step, so both are computed to the same floats as
 * Pillow's: with `x` the distance from the largest channel to the middle one, hue is (base + x / range) / 6 of 255, where base is -1, 1,
 * 3 or 5 and x counts backwards in every other sector.
 *
 * Back, channel c of value V and saturation S is V - V * S * X / 65025, where X (0 to 255) is how far hue is from the third of the circle
 * in which c is full. Pillow says the same in other words and rounds in double precision; no colour is known to come out otherwise.
 */
export function turnHue(): Func {
  const f = new Func(Array(5).fill("i32"));
  const [red, green, blue, pixels, shift] = f.parameters() as Locals<5>;
  const i = f.local("i32");
  const [r, g, b, max, min, range, x, base, backwards, isRed, isGreen, minRed, minBlue] = vectors(f, 13);
  const [hue, saturation, turn, high, value] = vectors(f, 5);
  const word = i16x8.const;
  const { add: plus, sub: minus } = i16x8;
  const either = (mask: Local, a: Code, b: Code): Code => v128.select(a, b, mask.get);

  const widened = (words: Local, half: 0 | 1): Code =>
    f32x4.fromInt(half === 0 ? i32x4.lowSigned(words.get) : i32x4.highSigned(words.get));
  const saturationOf = (half: 0 | 1): Code => {
    const share = f32x4.div(byHalf[half].floats(range.get), byHalf[half].floats(max.get));
    return rounded(f32x4.floor(f32x4.mul(share, f32x4.const(255))));
  };
  const hueOf = (half: 0 | 1): Code[] => {
    const sixths = f32x4.add(widened(base, half), f32x4.div(widened(x, half), byHalf[half].floats(range.get)));
    const wrap = v128.and(f32x4.lt(turn.get, f32x4.const(0)), f32x4.const(255));
    return [
      turn.set(f32x4.mul(f32x4.div(sixths, f32x4.const(6)), f32x4.const(255))),
      turn.set(rounded(f32x4.floor(f32x4.add(turn.get, wrap)))),
    ];
  };
  const bounded = (words: Code): Code => i16x8.max(i16x8.min(words, word(255)), word(0));
  const distance = (from: number): Code => i16x8.abs(minus(hue.get, word(from)));
  const channel = (lack: Code, plane: Local, old: Local): Code[] => {
    const part = (half: 0 | 1): Code => {
      const [v, s] = [byHalf[half].floats(value.get), byHalf[half].floats(turn.get)];
      return rounded(f32x4.sub(v, f32x4.mul(f32x4.mul(v, s), f32x4.const(1 / 65025))));
    };
    return [
      // As unsigned 16-bit words: 255 * 255 fits.
      turn.set(i16x8.mul(saturation.get, lack)),
      turn.set(i16x8.narrow(part(0), part(1))),
      turn.set(v128.select(old.get, turn.get, i16x8.eq(range.get, word(0)))),
      v128.store64(add(plane.get, i.get), toBytesOfWords(turn.get)),
    ];
  };

  return f.body(
    loopWhile(
      i32.lt(i.get, pixels.get),
      r.set(v128.load8x8(add(red.get, i.get))),
      g.set(v128.load8x8(add(green.get, i.get))),
      b.set(v128.load8x8(add(blue.get, i.get))),
      max.set(i16x8.max(r.get, i16x8.max(g.get, b.get))),
      min.set(i16x8.min(r.get, i16x8.min(g.get, b.get))),
      range.set(minus(max.get, min.get)),
      // max - middle = 2 max + min - (r + g + b)
      x.set(minus(plus(plus(max.get, max.get), min.get), plus(r.get, plus(g.get, b.get)))),
      isRed.set(i16x8.eq(r.get, max.get)),
      isGreen.set(i16x8.eq(g.get, max.get)),
      minRed.set(i16x8.eq(r.get, min.get)),
      minBlue.set(i16x8.eq(b.get, min.get)),
      base.set(
        either(
          isRed,
          either(minBlue, word(1), word(-1)),
          either(isGreen, either(minBlue, word(1), word(3)), either(minRed, word(3), word(5))),
        ),
      ),
      backwards.set(either(isRed, minBlue.get, either(isGreen, v128.not(minBlue.get), v128.not(minRed.get)))),
      x.set(minus(v128.xor(x.get, backwards.get), backwards.get)),
      saturation.set(i16x8.narrow(saturationOf(0), saturationOf(1))),
      ...hueOf(1),
      high.set(turn.get),
      ...hueOf(0),
      hue.set(v128.and(plus(i16x8.narrow(turn.get, high.get), i16x8.splat(shift.get)), word(255))),
      hue.set(i16x8.mul(hue.get, word(6))),
      value.set(max.get),
      ...channel(bounded(minus(word(510), distance(765))), red, r),
      ...channel(bounded(minus(distance(510), word(255))), green, g),
      ...channel(bounded(minus(distance(1020), word(255))), blue, b),
      i.add(int(8)),
    ),
  );
}
