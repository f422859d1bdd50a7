// Gradient checkpointing: the same values and gradients as without, and nothing left behind.
import { expect, test } from "vitest";
import { collectGarbage } from "../../tests/garbage.js";
import {
  allocatorStats,
  autocast,
  backward,
  checkpoint,
  dropout,
  getRngState,
  grad,
  isAutocastEnabled,
  isGradEnabled,
  linear,
  manualSeed,
  memoryStats,
  noGrad,
  randint,
  randn,
  type Tensor,
  tensor,
  tidy,
} from "./index.js";

const inScope = (name: string, fn: () => void) => test(name, () => tidy(fn));

type Piece = (...inputs: Tensor[]) => Tensor | Tensor[];
/** fn as it is, or checkpointed. */
const ways = [(inputs: Tensor[], fn: Piece) => fn(...inputs), (inputs: Tensor[], fn: Piece) => checkpoint(inputs, fn)];

const leaf = (...shape: number[]) => randn(shape).requiresGrad_();
/** Small whole numbers: sums of a few are exact in any order and precision. */
const whole = (...shape: number[]) => randint(-3, 4, shape).float().requiresGrad_();
const first = (given: Tensor | Tensor[]) => (Array.isArray(given) ? given[0]! : given);

/** The values of a tensor and of gradients, all in one list of plain numbers. */
const numbers = (...all: (Tensor | null)[]) => all.map((each) => each?.tolist() ?? null);

function expectClose(got: unknown, wanted: unknown) {
  for (const [i, value] of (wanted as number[]).entries()) expect((got as number[])[i]).toBeCloseTo(value, 5);
}

/** Two layers with dropout between them. */
function perceptron() {
  const [w1, b1, w2] = [leaf(16, 8), leaf(16), leaf(4, 16)];
  return { parameters: [w1, b1, w2], forward: (x: Tensor) => linear(dropout(linear(x, w1, b1).tanh(), 0.5, true), w2) };
}

for (const precision of ["float32", "bfloat16"] as const) {
  for (const inside of [false, true]) {
    inScope(
      `values, gradients and random numbers are the same in ${precision}, backward ${inside ? "inside" : "outside"} autocast`,
      () => {
        manualSeed(0);
        const { parameters, forward } = perceptron();
        const x = leaf(5, 8);
        const seen = ways.map((way) => {
          for (const each of [x, ...parameters]) each.grad = null;
          manualSeed(1);
          const half = <R>(fn: () => R) => (precision === "bfloat16" ? autocast({}, fn) : fn());
          const run = () =>
            first(way([x], forward))
              .float()
              .pow(2)
              .sum();
          const loss = inside
            ? half(() => {
                const value = run();
                value.backward();
                return value;
              })
            : half(run);
          if (!inside) loss.backward();
          return numbers(loss, x.grad, ...parameters.map((each) => each.grad), getRngState());
        });
        expect(seen[1]).toEqual(seen[0]);
        expect(seen[0]!.every((each) => each !== null)).toBe(true);
      },
    );
  }
}

inScope("a weight's cast that autocast keeps stays connected to the weight, in whichever order it is used", () => {
  const w = whole(8, 8);
  const x = whole(4, 8).detach();
  for (const order of [0, 1]) {
    const seen = ways.map((way) => {
      w.grad = null;
      autocast({}, () => {
        const uses = [() => first(way([x], (y) => linear(y, w))), () => linear(x.mul(2), w)];
        const [a, b] = order === 0 ? uses.map((use) => use()) : uses.reverse().map((use) => use());
        a!.float().sum().add(b!.float().sum()).backward();
      });
      return numbers(w.grad);
    });
    expect(seen[1]).toEqual(seen[0]);
  }
});

inScope("autocast and grad mode of the first run are those of the second", () => {
  const x = leaf(3);
  const modes: unknown[] = [];
  const fn = (y: Tensor) => {
    modes.push([isAutocastEnabled(), isGradEnabled()]);
    return y.mul(y);
  };
  const y = autocast({}, () => checkpoint([x], fn));
  noGrad(() => y.sum());
  const z = checkpoint([x], fn);
  const loss = y.sum().add(z.sum());
  autocast({}, () => loss.backward());
  expect(modes).toEqual([
    [true, true],
    [false, true],
    [false, true],
    [true, true],
  ]);
  expect([isAutocastEnabled(), isGradEnabled()]).toEqual([false, true]);
});

inScope("inputs that are not used, outputs that are not used, integers, and inputs without gradient", () => {
  const [x, unused, w] = [leaf(3), leaf(2), leaf(3)];
  const index = tensor([2, 0], { dtype: "int64" });
  const seen = ways.map((way) => {
    for (const each of [x, unused, w]) each.grad = null;
    const [a, , rows, same] = way([x, unused, index], (y, _, i) => [y.mul(w), y.exp(), i!.add(1), w]) as Tensor[];
    expect(rows!.dtype).toBe("int64");
    expect(same).toBe(w);
    a!.indexSelect(0, index).sum().backward();
    return numbers(a!, x.grad, unused.grad, w.grad);
  });
  expect(seen[1]).toEqual(seen[0]);
  expect(unused.grad).toBeNull();
});

inScope("parameters get their gradients where no input needs one", () => {
  const [w, x] = [leaf(3), randn([3])];
  const y = checkpoint([x], (given) => given.mul(w));
  expect([y.requiresGrad, y.isLeaf]).toEqual([true, false]);
  y.sum().backward();
  expect(w.grad!.tolist()).toEqual(x.tolist());
  expect(x.grad).toBeNull();
});

inScope("an input that comes back as it is, views and one tensor twice", () => {
  const x = whole(2, 3);
  const seen = ways.map((way) => {
    x.grad = null;
    const y = x.mul(1);
    const [same, view, product] = way([y, y], (a, b) => [a!, a!.view([3, 2]), a!.mul(b!)]) as Tensor[];
    same!
      .sum()
      .add(view!.narrow(0, 0, 1).mul(3).sum())
      .add(product!.sum())
      .backward();
    return numbers(same!, view!, x.grad);
  });
  expect(seen[1]).toEqual(seen[0]);
});

inScope("gradients off, or nothing that needs one: just the function", () => {
  const x = leaf(3);
  let calls = 0;
  const fn = (y: Tensor) => {
    calls++;
    return y.mul(2);
  };
  expect(noGrad(() => checkpoint([x], fn)).requiresGrad).toBe(false);
  const y = checkpoint([x.detach()], fn);
  expect([y.requiresGrad, calls]).toEqual([false, 2]);
});

inScope("nested, retained and accumulated", () => {
  const [x, w] = [leaf(4), leaf(4)];
  const inner = (y: Tensor) => dropout(y.mul(w).sin(), 0.5, true);
  const seen = ways.map((way) => {
    x.grad = null;
    w.grad = null;
    manualSeed(3);
    const outer = (y: Tensor) => first(way([first(way([y], inner)).add(y)], inner)).mul(w);
    for (let i = 0; i < 2; i++) {
      const loss = first(way([x], outer)).sum();
      loss.backward(undefined, { retainGraph: true });
      loss.backward();
    }
    return numbers(x.grad, w.grad);
  });
  // Uses of w are summed up in another order.
  for (const [i, values] of seen[0]!.entries()) expectClose(seen[1]![i], values);
});

inScope("blocks one after another", () => {
  const [x, ...weights] = [leaf(4, 8), ...Array.from({ length: 100 }, () => leaf(8, 8))] as [Tensor, ...Tensor[]];
  const seen = ways.map((way) => {
    for (const each of [x, ...weights]) each.grad = null;
    weights
      .reduce((y, w) => first(way([y], (given) => given.matmul(w).tanh())), x)
      .sum()
      .backward();
    return numbers(x.grad, ...weights.map((each) => each.grad));
  });
  expect(seen[1]).toEqual(seen[0]);
});

inScope("an error of the second run comes out of backward as it is, and leaves everything in order", () => {
  class Mine extends Error {}
  const x = leaf(3);
  let runs = 0;
  const failing = (error: () => Error) => (y: Tensor) => {
    if (runs++ % 2 === 1) throw error();
    return y.mul(2);
  };
  const scopes = memoryStats().scopes;
  const own = new Mine("on purpose");
  const y = checkpoint(
    [x.mul(1)],
    failing(() => own),
  );
  let caught: unknown;
  try {
    autocast({}, () => y.sum().backward());
  } catch (error) {
    caught = error;
  }
  expect(caught).toBe(own);
  // Through two checkpoints, and as the engine's own errors are.
  const z = checkpoint([x], (given) =>
    checkpoint(
      [given],
      failing(() => new Mine("inside")),
    ),
  );
  expect(() => z.sum().backward()).toThrow(Mine);
  const bad = checkpoint([x], (given) => (runs++ % 2 === 0 ? given.mul(2) : given.matmul(randn([2, 2]))));
  expect(() => bad.sum().backward()).toThrow(/matmul/);
  expect([memoryStats().scopes, isAutocastEnabled(), isGradEnabled()]).toEqual([scopes, false, true]);
  // What failed can be tried again, and the engine works as before.
  x.grad = null;
  y.sum().backward();
  expect(x.grad!.tolist()).toEqual([2, 2, 2]);
});

inScope("what cannot be is refused in a sentence", () => {
  const [x, w] = [leaf(3), leaf(3)];
  const fresh = () => checkpoint([x], (y) => y.mul(w).exp()).sum();
  expect(() => grad([fresh()], [x])).toThrow(/grad\(\), and backward\(\) with inputs, cannot go through it/);
  expect(() => backward([fresh()], { inputs: [x] })).toThrow(/use backward\(\) alone/);
  expect(() => grad([fresh()], [x], { createGraph: true })).toThrow(/no second derivatives/);
  const y = fresh();
  y.backward();
  expect(() => y.backward()).toThrow(/second time/);
  const z = checkpoint([x], (given) => given.mul(w));
  z.sum().backward();
  expect(() => z.sum().backward()).toThrow(/second time, after what it needs has been freed/);
  expect(() => checkpoint([x], () => 1 as never)).toThrow(/must give a Tensor or a list of Tensors/);
  expect(() => checkpoint([1 as never], () => w.mul(2))).toThrow(/inputs expects a Tensor, got 1/);
  let runs = 0;
  const fewer = checkpoint([x], (given) => (runs++ === 0 ? [given.mul(2), given.mul(3)] : [given.mul(2)]));
  expect(() => fewer[1]!.sum().backward()).toThrow(/gave fewer outputs/);
  const changed = checkpoint([w.mul(1)], (given) => given.mul(x));
  noGrad(() => x.add_(1));
  expect(() => changed.sum().backward()).not.toThrow();
  const input = w.mul(1);
  const stale = checkpoint([input], (given) => given.mul(x));
  noGrad(() => input.add_(1));
  expect(() => stale.sum().backward()).toThrow(/modified by an inplace operation/);
});

/** Whether what a checkpoint's function holds is gone after `use`. */
async function isForgotten(use: (held: object) => void): Promise<boolean> {
  const reference = (() => {
    const held = { name: "held by the function" };
    use(held);
    return new WeakRef(held);
  })();
  for (let i = 0; i < 5 && reference.deref(); i++) {
    await new Promise((settle) => setTimeout(settle));
    collectGarbage();
  }
  return reference.deref() === undefined;
}

const holding = (held: object) => (y: Tensor) => {
  if (!held) throw new Error("never");
  return y.exp();
};

test("the function is let go: after backward, with a graph thrown away, and with one that garbage collection finds", async () => {
  const x = leaf(3);
  const after = tidy(() => x.mul(1));
  expect(
    await isForgotten((held) => {
      checkpoint([x], holding(held)).sum().backward();
    }),
  ).toBe(true);
  expect(await isForgotten((held) => tidy(() => void checkpoint([x], holding(held))))).toBe(true);
  expect(await isForgotten((held) => void checkpoint([x], holding(held)))).toBe(true);
  // A graph that is there holds it.
  let y: Tensor | undefined;
  expect(
    await isForgotten((held) => {
      y = checkpoint([x], holding(held));
    }),
  ).toBe(false);
  for (const each of [x, after, y!]) each.dispose();
});

test("live handles and bytes are the same after every step", () => {
  collectGarbage();
  const { parameters, forward } = perceptron();
  const x = leaf(64, 8);
  const seen = Array.from({ length: 6 }, () => {
    tidy(() => {
      const y = checkpoint([x], (given) => checkpoint([given], forward));
      y.sum().backward();
      for (const each of [x, ...parameters]) each.grad = null;
    });
    // And one that is not run backward.
    tidy(() => void checkpoint([x], forward));
    return [memoryStats().handles, allocatorStats().bytesInUse];
  });
  expect(new Set(seen.slice(1).map(String)).size).toBe(1);
  for (const each of [x, ...parameters]) each.dispose();
});

test("the inner results are not kept", () => {
  collectGarbage();
  const x = leaf(1 << 16);
  const chain = (y: Tensor) => Array.from({ length: 8 }).reduce<Tensor>((z) => z.sin(), y);
  const [kept, again] = ways.map((way) =>
    tidy(() => {
      const before = allocatorStats().bytesInUse;
      const y = Array.from({ length: 4 }).reduce<Tensor>((z) => tidy(() => first(way([z], chain))), x);
      const held = allocatorStats().bytesInUse - before;
      y.sum().backward();
      x.grad = null;
      return held / (4 * (1 << 16));
    }),
  );
  // In vectors: 8 of every piece, or what goes from piece to piece.
  expect(kept).toBeGreaterThan(30);
  expect(again).toBeLessThan(5);
  x.dispose();
});

test("random integers and a state that fn changes itself: the generator is put back", () => {
  tidy(() => {
    const x = leaf(3);
    manualSeed(5);
    const y = checkpoint([x], (given) => given.mul(randint(1, 100, [3]).float()));
    const between = randn([2]).tolist();
    const state = getRngState().tolist();
    y.sum().backward();
    expect(getRngState().tolist()).toEqual(state);
    manualSeed(5);
    const factors = randint(1, 100, [3]).float();
    expect(x.grad!.tolist()).toEqual(factors.tolist());
    expect(randn([2]).tolist()).toEqual(between);
  });
});
