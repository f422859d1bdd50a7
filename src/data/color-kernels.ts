// The loops of colour changes as WebAssembly, on planes of bytes, in place, with Pillow's roundings. Several bytes past the end of a plane
// may be read and written.
import {
  type Code,
  Func,
  f32x4,
  f64x2,
  i16x8,
  i32,
  i32x4,
  type Local,
  type Locals,
  loopWhile,
  toBytes,
  v128,
} from "./assembler.js";

const { const: int, add } = i32;

/** Blends three planes with their luma, in float32, cut to bytes: (red, green, blue, pixels, factor). */
export function blendWithLuma(): Func {
  const f = new Func(["i32", "i32", "i32", "i32", "f32"]);
  const parameters = f.parameters() as Locals<5>;
  const planes = parameters.slice(0, 3);
  const [, , , pixels, factor] = parameters;
  const i = f.local("i32");
  const bytes = [0, 1, 2].map(() => f.local("v128"));
  const greys = [f.local("v128"), f.local("v128")];
  const halves = [i32x4.low, i32x4.high];
  const share = (channel: number, half: number, weight: number): Code =>
    i32x4.mul(halves[half]!(bytes[channel]!.get), i32x4.splat(int(weight)));
  const luma = (half: number): Code => {
    const sum = i32x4.add(i32x4.add(share(0, half, 19595), share(1, half, 38470)), share(2, half, 7471));
    return i32x4.shr(i32x4.add(sum, i32x4.splat(int(0x8000))), int(16));
  };
  const blend = (channel: number, half: number): Code => {
    const grey = greys[half]!.get;
    const difference = f32x4.fromInt(i32x4.sub(halves[half]!(bytes[channel]!.get), grey));
    return i32x4.fromFloat(f32x4.add(f32x4.fromInt(grey), f32x4.mul(f32x4.splat(factor.get), difference)));
  };
  return f.body(
    loopWhile(
      i32.lt(i.get, pixels.get),
      ...planes.map((plane, c) => bytes[c]!.set(v128.load8x8(add(plane.get, i.get)))),
      ...greys.map((grey, half) => grey.set(luma(half))),
      ...planes.map((plane, c) => v128.store64(add(plane.get, i.get), toBytes(blend(c, 0), blend(c, 1)))),
      i.add(int(8)),
    ),
  );
}

/** Blends bytes with one value, in float32, cut to bytes: (address, length, value, factor). */
export function blendWithValue(): Func {
  const f = new Func(["i32", "i32", "i32", "f32"]);
  const [address, length, value, factor] = f.parameters() as Locals<4>;
  const [i, words] = [f.local("i32"), f.local("v128")];
  const [start, times] = [f.local("v128"), f.local("v128")];
  const blend = (half: Code): Code => {
    const difference = f32x4.fromInt(i32x4.sub(half, i32x4.splat(value.get)));
    return i32x4.fromFloat(f32x4.add(start.get, f32x4.mul(times.get, difference)));
  };
  return f.body(
    start.set(f32x4.fromInt(i32x4.splat(value.get))),
    times.set(f32x4.splat(factor.get)),
    loopWhile(
      i32.lt(i.get, length.get),
      words.set(v128.load8x8(add(address.get, i.get))),
      v128.store64(add(address.get, i.get), toBytes(blend(i32x4.low(words.get)), blend(i32x4.high(words.get)))),
      i.add(int(8)),
    ),
  );
}

/**
 * Turns the hue of three planes by `shift` of 255 in Pillow's 8-bit HSV: (red, green, blue, pixels, shift). Divisions are in float32
 * and what follows them in float64, where Pillow's C code has them so: an 8-bit hue off by one is a visible step.
 */
export function turnHue(): Func {
  const f = new Func(Array(5).fill("i32"));
  const [red, green, blue, pixels, shift] = f.parameters() as Locals<5>;
  const i = f.local("i32");
  const vectors = (count: number): Local[] => Array.from({ length: count }, () => f.local("v128"));
  const [r, g, b, max, range, turn, saturation, hue, fraction, sector] = vectors(10) as Locals<10>;
  const [p, q, t] = vectors(3) as Locals<3>;
  const { add: plus, sub: minus, mul: times, div: by } = f64x2;
  const one = f64x2.const(1);
  const number = f64x2.const;

  /** Applies a function of doubles to four floats or integers. */
  const halves = (operands: Code[], widen: (v: Code) => Code, narrow: (v: Code) => Code, apply: (...v: Code[]) => Code): Code =>
    v128.joinLow(narrow(apply(...operands.map((v) => widen(v)))), narrow(apply(...operands.map((v) => widen(v128.upper(v))))));
  const toFloats = (operands: Code[], apply: (...v: Code[]) => Code): Code =>
    halves(operands, f64x2.fromFloat, f32x4.fromDouble, apply);
  const toInts = (operands: Code[], apply: (...v: Code[]) => Code): Code =>
    halves(operands, f64x2.fromFloat, i32x4.fromDouble, apply);

  const load = (plane: Local): Code => i32x4.low(i16x8.fromBytesLow(v128.loadZero32(add(plane.get, i.get))));
  const store = (plane: Local, value: Code, old: Local): Code => {
    const kept = v128.select(old.get, value, i32x4.eq(range.get, i32x4.splat(int(0))));
    return v128.store32(add(plane.get, i.get), toBytes(kept, kept));
  };
  // How far each channel is below the largest, as a share of the range.
  const below = (channel: Local): Code => f32x4.div(f32x4.fromInt(i32x4.sub(max.get, channel.get)), f32x4.fromInt(range.get));
  const byLargest = (ifRed: Code, ifGreen: Code, ifBlue: Code): Code =>
    v128.select(ifRed, v128.select(ifGreen, ifBlue, i32x4.eq(g.get, max.get)), i32x4.eq(r.get, max.get));
  const whole = (value: number): Code => f32x4.fromInt(i32x4.splat(int(value)));
  const inSector = (...numbers: number[]): Code =>
    numbers.map((n) => i32x4.eq(sector.get, i32x4.splat(int(n)))).reduce((a, b) => v128.or(a, b));
  const value = f32x4.fromInt(max.get);
  const half = number(0.5);

  return f.body(
    loopWhile(
      i32.lt(i.get, pixels.get),
      r.set(load(red)),
      g.set(load(green)),
      b.set(load(blue)),
      max.set(i32x4.max(r.get, i32x4.max(g.get, b.get))),
      range.set(i32x4.sub(max.get, i32x4.min(r.get, i32x4.min(g.get, b.get)))),
      // To 8-bit saturation and hue.
      saturation.set(toInts([f32x4.div(f32x4.fromInt(range.get), value)], (s) => times(s, number(255)))),
      p.set(below(r)),
      q.set(below(g)),
      t.set(below(b)),
      turn.set(
        toFloats(
          [byLargest(whole(0), whole(2), whole(4)), byLargest(t.get, p.get, q.get), byLargest(q.get, t.get, p.get)],
          (start, plusShare, minusShare) => minus(plus(start, plusShare), minusShare),
        ),
      ),
      turn.set(
        toFloats([turn.get], (h) => {
          const turned = plus(by(h, number(6)), one);
          return minus(turned, v128.and(one, f64x2.ge(turned, one)));
        }),
      ),
      hue.set(toInts([turn.get], (h) => times(h, number(255)))),
      hue.set(v128.and(i32x4.add(hue.get, i32x4.splat(shift.get)), i32x4.splat(int(255)))),
      // And back: which of the six sectors, and how far into it.
      sector.set(halves([hue.get], f64x2.fromInt, i32x4.fromDouble, (h) => by(times(h, number(6)), number(255)))),
      fraction.set(
        halves([hue.get], f64x2.fromInt, f32x4.fromDouble, (h) => {
          const turned = by(times(h, number(6)), number(255));
          return minus(turned, f64x2.floor(turned));
        }),
      ),
      sector.set(v128.select(i32x4.splat(int(0)), sector.get, inSector(6))),
      saturation.set(halves([saturation.get], f64x2.fromInt, f32x4.fromDouble, (s) => by(s, number(255)))),
      p.set(toInts([value, saturation.get], (v, s) => plus(times(v, minus(one, s)), half))),
      q.set(toInts([value, f32x4.mul(saturation.get, fraction.get)], (v, s) => plus(times(v, minus(one, s)), half))),
      t.set(
        toInts([value, saturation.get, fraction.get], (v, s, part) =>
          plus(times(v, minus(one, times(s, minus(one, part)))), half),
        ),
      ),
      store(red, select3([inSector(0, 5), max], [inSector(1), q], [inSector(4), t], p), r),
      store(green, select3([inSector(1, 2), max], [inSector(3), q], [inSector(0), t], p), g),
      store(blue, select3([inSector(3, 4), max], [inSector(5), q], [inSector(2), t], p), b),
      i.add(int(4)),
    ),
  );
}

type Choice = readonly [mask: Code, value: Local];

/** The value whose mask is set, or the last. */
function select3([maskA, a]: Choice, [maskB, b]: Choice, [maskC, c]: Choice, otherwise: Local): Code {
  return v128.select(a.get, v128.select(b.get, v128.select(c.get, otherwise.get, maskC), maskB), maskA);
}
