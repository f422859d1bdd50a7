/**
 * Random arguments for the fuzz of the bridge: values of the kinds that a schema asks for, sound and unsound, and hostile values of no
 * kind it knows. Everything is drawn from one generator a call, so a call can be made again from its seed and number alone.
 */
import { createRequire } from "node:module";

/** A generator of its own for each (seed, call). */
export function randomOf(seed, call) {
  let state = (Math.imul(seed, 0x9e3779b1) ^ Math.imul(call + 1, 0x85ebca6b)) >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const below = (n) => Math.floor(next() * n);
  return { next, below, chance: (p) => next() < p, pick: (list) => list[below(list.length)] };
}

const SIZES = [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 6, 7, 8, 9, 16, 17];
const DTYPES = [
  ...Array(10).fill("float32"),
  ...Array(5).fill("int64"),
  ...["float64", "float64", "bool", "bool", "bfloat16", "float16", "uint8", "int8", "int16", "int32", "complex64", "complex128"],
];
const WIDTH = {
  bool: 1,
  uint8: 1,
  int8: 1,
  int16: 2,
  float16: 2,
  bfloat16: 2,
  int32: 4,
  float32: 4,
  int64: 8,
  float64: 8,
  complex64: 8,
  complex128: 16,
};

const SMALL = [0, 0, 1, 1, 1, 2, 2, 3, 4, 5, 7, 8, 16, -1, -1, -2, -3];
const EXTREME = [
  ...[
    31,
    63,
    100,
    1000,
    65_535,
    2 ** 20,
    2 ** 31 - 1,
    2 ** 31,
    -(2 ** 31),
    2 ** 32,
    2 ** 40,
    -(2 ** 40),
    2 ** 53 - 1,
    -(2 ** 53) + 1,
  ],
  ...[2n ** 62n, 2n ** 63n - 1n, -(2n ** 63n), 2n ** 61n + 1n, -(2n ** 62n) - 5n],
];
const FLOATS = [
  0,
  -0,
  0.5,
  0.1,
  1,
  2,
  -1,
  -0.5,
  1e-5,
  1e-45,
  1e30,
  1e308,
  -1e308,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
];
const STRINGS = [
  ...[
    "",
    "none",
    "mean",
    "sum",
    "tanh",
    "constant",
    "reflect",
    "replicate",
    "circular",
    "floor",
    "trunc",
    "linear",
    "lower",
    "higher",
  ],
  ...[
    "nearest",
    "midpoint",
    "bilinear",
    "bicubic",
    "ij",
    "xy",
    "L",
    "U",
    "S",
    "R",
    "N",
    "T",
    "reduced",
    "complete",
    "r",
    "left",
    "right",
  ],
  ...[
    "ortho",
    "forward",
    "backward",
    "fro",
    "nuc",
    "gelsy",
    "gelsd",
    "gels",
    "sum",
    "prod",
    "amax",
    "amin",
    "max",
    "min",
    "add",
    "multiply",
  ],
  ...[
    "ab,bc->ac",
    "ij,jk",
    "...i->i",
    "a->",
    ",->",
    "a,b->ab",
    "zz",
    "same",
    "valid",
    "*",
    "lone \ud800",
    "nul \0 in it",
    "x".repeat(5000),
    "é",
  ],
];
const DEVICES = ["cpu", "cpu", "cpu", "cpu", "cuda", "cuda:0", "cuda:99", "meta", "abacus", "cpu:0", ""];
const FORMATS = ["contiguousFormat", "preserveFormat", "channelsLast", "channelsLast3d", "none"];

/** Makes the arguments of one call. */
export class Values {
  constructor(native, classes, random) {
    Object.assign(this, { native, classes, random });
    const rank = random.pick([0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4, 5, 6]);
    this.base = Array.from({ length: rank }, () => random.pick(SIZES));
    this.made = [];
  }

  /** A value for one argument of a schema; `undefined` asks for the default. */
  argument({ name, type, hasDefault, fixedLength }) {
    const { random } = this;
    if (random.chance(0.03)) return this.hostile();
    if (hasDefault && random.chance(0.5)) return undefined;
    let base = type;
    if (base.endsWith("?")) {
      if (random.chance(0.25)) return null;
      base = base.slice(0, -1);
    }
    if (base.endsWith("[]")) return this.list(base.slice(0, -2), name, fixedLength);
    return this.one(base, name);
  }

  one(type, name) {
    const { random } = this;
    switch (type) {
      case "Tensor":
        return random.chance(0.04) ? this.scalar() : this.tensor(name);
      case "Tensor?":
        return random.chance(0.3) ? null : this.tensor(name);
      case "Scalar":
      case "Scalar?":
      case "number":
        return this.scalar();
      case "int":
      case "SymInt":
        return this.int(name);
      case "float":
        return random.chance(0.6) ? random.next() * 2 : random.pick(FLOATS);
      case "bool":
        return random.chance(0.5);
      case "str":
        return random.pick(STRINGS);
      case "ScalarType":
        return random.chance(0.05) ? "float31" : random.pick(DTYPES);
      case "Layout":
        return random.pick(["strided", "strided", "sparse", "mkldnn"]);
      case "MemoryFormat":
        return random.pick(FORMATS);
      case "Device":
        return random.pick(DEVICES);
      case "Generator":
        return this.generator();
      default:
        return this.hostile();
    }
  }

  list(element, name, fixedLength) {
    const { random } = this;
    if ((element === "int" || element === "SymInt") && random.chance(0.25)) return [...this.base];
    if (fixedLength > 0 && random.chance(0.3)) return this.one(element, name);
    const length = fixedLength > 0 && random.chance(0.9) ? fixedLength : random.pick([0, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6, 64]);
    if (element.startsWith("Tensor") && length > 6) return [];
    return Array.from({ length }, () => this.one(element, name));
  }

  int(name) {
    const { random, base } = this;
    if (/dim|axis/.test(name) && random.chance(0.8)) return random.below(2 * base.length + 3) - base.length - 1;
    return random.chance(0.88) ? random.pick(SMALL) : random.pick(EXTREME);
  }

  scalar() {
    const { random } = this;
    const kind = random.below(5);
    if (kind === 0) return random.pick(FLOATS);
    if (kind === 1) return random.chance(0.5);
    return kind === 2 ? random.next() * 3 : random.chance(0.9) ? random.pick(SMALL) : random.pick(EXTREME);
  }

  generator() {
    const { random, native } = this;
    const generator = new this.classes.Generator();
    if (random.chance(0.95)) native.attachGenerator(generator, "cpu");
    return generator;
  }

  shape() {
    const { random, base } = this;
    const kind = random.below(10);
    if (kind < 6) return [...base];
    if (kind === 6) return base.map((size) => (random.chance(0.5) ? 1 : size));
    if (kind === 7) return base.slice(random.below(base.length + 1));
    if (kind === 8) return [...base].sort(() => random.next() - 0.5);
    return Array.from({ length: random.below(6) }, () => random.pick(SIZES));
  }

  tensor(name = "") {
    const { random, native } = this;
    if (this.made.length > 0 && random.chance(0.15)) return random.pick(this.made);
    const indices = /ind|target|offset|length|label|repeats|idx|sections|crow|col|row|size/.test(name);
    const dtype =
      indices && random.chance(0.8) ? "int64" : /mask|cond/.test(name) && random.chance(0.7) ? "bool" : random.pick(DTYPES);
    let tensor = this.dense(this.shape(), dtype, indices);
    tensor = this.view(tensor, dtype);
    if (/^(float|bfloat|complex)/.test(dtype) && random.chance(0.25)) {
      try {
        native.setRequiresGrad(tensor, true);
      } catch {
        // A view of something that requires gradients.
      }
    }
    if (random.chance(0.01)) native.dispose(tensor);
    this.made.push(tensor);
    return tensor;
  }

  dense(shape, dtype, indices) {
    const { random, native } = this;
    const count = shape.reduce((a, b) => a * b, 1);
    const bytes = new ArrayBuffer(count * WIDTH[dtype]);
    const style = random.below(8);
    const value = () => {
      if (indices && style < 6) return random.below(style < 3 ? 3 : 9) - (style === 5 ? 2 : 0);
      if (style === 0) return random.pick(SMALL);
      if (style === 1) return Number(random.pick(EXTREME));
      if (style === 2) return random.pick(FLOATS);
      return style === 3 ? 0 : random.next() * 4 - 2;
    };
    if (dtype === "int64")
      new BigInt64Array(bytes).forEach((_, i, all) => {
        all[i] = BigInt(Math.trunc(value() || 0) || 0);
      });
    else if (/float32|complex64/.test(dtype))
      new Float32Array(bytes).forEach((_, i, all) => {
        all[i] = value();
      });
    else if (/float64|complex128/.test(dtype))
      new Float64Array(bytes).forEach((_, i, all) => {
        all[i] = value();
      });
    else if (WIDTH[dtype] === 2 && dtype !== "int16")
      new Uint16Array(bytes).forEach((_, i, all) => {
        all[i] = random.chance(0.9) ? 0x3f00 + random.below(256) : random.below(65536);
      });
    else if (dtype === "int32")
      new Int32Array(bytes).forEach((_, i, all) => {
        all[i] = value();
      });
    else if (dtype === "int16")
      new Int16Array(bytes).forEach((_, i, all) => {
        all[i] = value();
      });
    else
      new Uint8Array(bytes).forEach((_, i, all) => {
        all[i] = value();
      });
    return native.fromBytes(new Uint8Array(bytes), shape, dtype);
  }

  /** The same numbers seen otherwise: transposed, with steps, with an offset, expanded, conjugated. */
  view(tensor, dtype) {
    const { random, native } = this;
    const run = (name, ...args) => {
      try {
        return native.call(native.resolveOperator(name), ...args);
      } catch {
        return tensor;
      }
    };
    switch (random.below(14)) {
      case 0:
        return run("transpose.int", tensor, 0, -1);
      case 1:
        return run("slice.Tensor", tensor, 0, 0, null, 2);
      case 2:
        return run("slice.Tensor", tensor, -1, 1, null, 1);
      case 3:
        return run("expand", run("unsqueeze", tensor, 0), [random.pick(SIZES), ...native.shape(tensor)]);
      case 4:
        return /complex/.test(dtype) ? run("conj", tensor) : run("flip", tensor, [0]);
      case 5:
        return random.chance(0.02) ? run("expand", this.dense([1], dtype, false), [2 ** 40]) : tensor;
      case 6:
        return random.chance(0.3) ? run("alias", tensor) : run("contiguous", tensor, random.pick(FORMATS.slice(0, 3)));
      default:
        return tensor;
    }
  }

  hostile() {
    const { random, native, classes } = this;
    const throwing = () => {
      throw new RangeError("a getter that throws");
    };
    const disposed = () => {
      const tensor = this.dense([2], "float32", false);
      native.dispose(tensor);
      return tensor;
    };
    const withGetter = (get) => Object.defineProperty([0, 1], 0, { get });
    const choices = [
      () => undefined,
      () => null,
      () => true,
      () => -0,
      () => Number.NaN,
      () => 2 ** 53,
      () => 2n ** 64n,
      () => -(2n ** 200n),
      () => "lone \udfff",
      () => Symbol("s"),
      () => () => 0,
      () => ({}),
      () => [],
      () => [[[]]],
      () => new Proxy([], { get: throwing }),
      () => new Proxy(this.dense([2], "float32", false), {}),
      () => Object.create(this.dense([2], "float32", false)),
      () => new classes.Tensor(),
      () => new classes.Generator(),
      () => this.generator(),
      disposed,
      () => [disposed()],
      () => withGetter(throwing),
      () =>
        withGetter(() => {
          for (const each of this.made) native.dispose(each);
          return 1;
        }),
      () => withGetter(() => native.call(native.resolveOperator("neg"), this.dense([2], "float32", false))),
      () => Object.defineProperty({}, "self", { enumerable: true, get: throwing }),
      () => Object.assign([], { length: 2 ** 32 - 1 }),
      () => Object.assign([], { length: 70_000 }),
      () => Array(3),
      () => Object.freeze([1, 2]),
      () => {
        const circle = [];
        circle.push(circle);
        return circle;
      },
      () => {
        const { proxy, revoke } = Proxy.revocable([], {});
        revoke();
        return proxy;
      },
      () => new Float32Array(4),
      () => new DataView(new ArrayBuffer(8)),
      () => new SharedArrayBuffer(8),
      () => new Date(Number.NaN),
      () => new Map([[1, 2]]),
      () => new WeakMap(),
      () => /x/,
      () => Promise.resolve(1),
      () => globalThis,
      () => process.stdout._handle ?? process,
      () => foreign(),
      () => native,
      () => ({ length: 3, 0: 1 }),
      // biome-ignore lint/suspicious/noThenProperty: on purpose
      () => ({ then: throwing, toString: throwing, valueOf: throwing }),
      () => this.tensor(),
      () => this.int(""),
      () => random.pick(STRINGS),
    ];
    return random.pick(choices)();
  }
}

/** Objects that other native code wraps: file handles, sockets, another addon's. */
function foreign() {
  const require = createRequire(import.meta.url);
  foreign.all ??= [
    () => new (require("node:net").Socket)(),
    () => new (require("node:zlib").Gzip)()._handle,
    () => require("node:crypto").createHash("md5"),
    () => require("node:crypto").createSecretKey(Buffer.alloc(8)),
    () => new (require("node:vm").Script)("1"),
    () => new (require("node:worker_threads").MessageChannel)().port1.unref(),
    () => {
      try {
        return require("sharp")({ create: { width: 1, height: 1, channels: 3, background: "red" } });
      } catch {
        return {};
      }
    },
  ].map((make) => make());
  foreign.turn = ((foreign.turn ?? 0) + 1) % foreign.all.length;
  return foreign.all[foreign.turn];
}
