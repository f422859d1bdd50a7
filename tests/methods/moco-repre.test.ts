// MoCo v3 and RePre step by step: against tests/reference/moco_repre.py, and every trap of the reference code by itself.
import { describe, expect, test } from "vitest";
import {
  Dino,
  infoNce,
  levelsOf,
  type Method,
  type MocoNetwork,
  MocoV3,
  mocoV3,
  mocoV3Options,
  Repre,
  repre,
  repreOptions,
} from "../../src/methods/index.js";
import {
  FusionDecoder,
  type FusionDecoderConfig,
  SwinTransformer,
  type VisionTransformer,
  type VitConfig,
} from "../../src/models/index.js";
import type { Module } from "../../src/nn/index.js";
import { AdamW, decayGroups, SGD } from "../../src/optim/index.js";
import { fromTypedArray, manualSeed, noGrad, ones, randn, stack, type Tensor, tidy } from "../../src/torch/index.js";
import { expectClose, fill, readGolden, type Stored, testRegenerates, valuesOf } from "../reference/golden.js";
import { setWeights } from "../reference/vit-weights.js";
import { at, changed, context, copyOf, formulaBatch, tinyVit, trainStep } from "./support.js";

type Described = Record<string, [norm: number, product: number]>;
interface Step {
  loss: number;
  con: number;
  rec: number;
  gradients: Described;
  state: Record<string, number>;
}
interface Alone {
  image: Stored;
  "gradients of levels": Stored[];
  gradients: Described;
}
const golden = readGolden<Record<string, unknown>>("moco_repre");

const fixedVit: VitConfig = { ...tinyVit, positions: "sin-cos", init: "moco-v3" };
const moco = { crops: { globalSize: 16 }, hidden: 20, outFeatures: 12, momentum: 0.9 };
const dino = {
  crops: { globalSize: 16, locals: 0 },
  head: { outFeatures: 24, hidden: 20, bottleneck: 12 },
  momentum: 0.9,
};
const makeMoco = (changes: object = {}, vit = fixedVit) => new MocoV3(mocoV3Options.parse({ ...moco, ...changes }), context(vit));
const makeRepre = (framework: object, changes: object = {}, vit = fixedVit) =>
  new Repre(repreOptions.parse({ framework, decoderWidth: 12, decoderNarrowest: 4, ...changes }), context(vit));

/** With the program's weights: every module by its own names. */
function prepare<M extends Method>(method: M): M {
  const framework = method instanceof Repre ? method.framework : method;
  if (method instanceof Repre) setWeights(method.trainable.decoder, "decoder.");
  const networks =
    framework instanceof Dino
      ? [framework.student, framework.teacher]
      : [(framework as MocoV3).trainable.online, (framework as MocoV3).momentum, (framework as MocoV3).trainable.predictor];
  for (const network of networks) {
    setWeights(network);
    // Fixed positions are no weights; the program's are float64.
    if (framework instanceof MocoV3 && network !== framework.trainable.predictor) {
      const table = golden.positions as Stored;
      const { posEmbed } = (network as MocoNetwork).backbone as VisionTransformer;
      noGrad(
        () =>
          void posEmbed
            .zero_()
            .slice(1, 1)
            .copy_(fromTypedArray(valuesOf(table), [1, ...table.shape])),
      );
    }
  }
  return method;
}

const overMoco = { name: "moco-v3", ...moco };
const cases: Record<string, () => Method> = {
  moco: () => makeMoco(),
  "repre over moco": () => makeRepre(overMoco, { lambda: 0.7 }),
  "repre over moco, last level": () =>
    makeRepre(overMoco, { levels: [-1], decoderForm: "sub-pixel", decoderBatchNorm: false, distance: "smooth-l1" }),
  "repre over dino": () =>
    makeRepre(
      { name: "dino", ...dino },
      { lambda: 2, levels: 2, decoderForm: "sub-pixel", fusion: "sum", distance: "l2", reconstruct: "first" },
      tinyVit,
    ),
};

describe("two steps as the reference program makes them", () => {
  for (const [name, make] of Object.entries(cases)) {
    test(`${name}: loss and its terms, gradients, momentum encoder or teacher, running statistics`, () => {
      const method = make();
      const framework = method instanceof Repre ? method.framework : method;
      // Batch norm over four images magnifies what float32 rounds.
      const double = framework instanceof MocoV3;
      if (double) for (const each of [method.trainable, framework.momentum]) each.to("float64");
      prepare(method);
      const optimizer = new SGD(decayGroups(method.trainable, "all"), { lr: 0.05 });
      for (const [step, expected] of (golden[name] as Step[]).entries()) {
        const close = (value: number, wanted: number, what: string, scale = Math.abs(wanted)) =>
          expect(Math.abs(value - wanted), `${what} at step ${step}: ${value}, expected ${wanted}`).toBeLessThan(
            (double ? 1e-8 : 5e-5) * (1 + scale),
          );
        const images = fill([2, 4, 3, 16, 16], 10 + step);
        const batch = { views: { global: double ? images : images.float() }, index: new Int32Array(4) };
        const compareState = (wanted: (name: string) => boolean) => {
          const state = method.state();
          for (const [each, product] of Object.entries(expected.state).filter(([name]) => wanted(name))) {
            const own = state.get(each)!;
            close(own.mul(fill(own.shape, 3).to(own.dtype)).sum().item(), product, each, Math.sqrt(own.numel));
          }
        };
        trainStep(method, optimizer, batch, at(step), ({ loss, terms }) => {
          // The one that made this step's keys: it moves after the step here, and before the keys there.
          compareState((each) => each.startsWith("momentum."));
          close(loss.item(), expected.loss, "loss");
          close((terms.ctr ?? terms.ce)!.item(), expected.con, "the contrastive term");
          if (terms.rec) close(terms.rec.item(), expected.rec, "rec");
          for (const [each, parameter] of method.trainable.namedParameters()) {
            const wanted = expected.gradients[each];
            const gradient = parameter.grad;
            if (!wanted || (each.includes("last_layer") && step < 1)) {
              expect(gradient, each).toBeNull();
              continue;
            }
            const scale = wanted[0] * Math.sqrt(gradient!.numel);
            close(gradient!.norm().item(), wanted[0], `norm of the gradient of ${each}`, scale);
            close(
              gradient!.mul(fill(gradient!.shape, 3).to(gradient!.dtype)).sum().item(),
              wanted[1],
              `gradient of ${each}`,
              scale,
            );
          }
        });
        compareState((each) => !each.startsWith("momentum."));
      }
    });
  }
  testRegenerates("moco_repre");
});

describe("the fusion decoder by itself", () => {
  const flat = [
    { width: 16, stride: 4 },
    { width: 16, stride: 4 },
  ];
  const pyramid = [
    { width: 6, stride: 2 },
    { width: 8, stride: 4 },
    { width: 10, stride: 8 },
  ];
  const alone: Record<string, [Omit<FusionDecoderConfig, "channels">, size: [number, number]]> = {
    flat: [{ levels: flat }, [16, 8]],
    "flat sum": [{ levels: flat, form: "sub-pixel", fusion: "sum", batchNorm: false }, [8, 8]],
    pyramid: [{ levels: pyramid }, [16, 24]],
    "pyramid sub-pixel": [{ levels: pyramid, form: "sub-pixel" }, [16, 8]],
  };
  for (const [name, [config, size]] of Object.entries(alone)) {
    test(`${name}: image, gradients of weights and of every level`, () => {
      const expected = golden[name] as Alone;
      const decoder = setWeights(new FusionDecoder({ width: 12, narrowest: 4, channels: 3, ...config }), "decoder.").to(
        "float64",
      );
      const levels = config.levels.map(({ width, stride }, i) =>
        fill([2, (size[0] / stride) * (size[1] / stride), width], i + 1).requiresGrad_(),
      );
      const image = decoder.call(levels, size);
      image.mul(fill(image.shape, 2)).sum().backward();
      expectClose(image.select(0, 1), expected.image, 1e-6);
      for (const [i, level] of levels.entries())
        expectClose(level.grad!, expected["gradients of levels"][i]!, 1e-5, `level ${i}`);
      for (const [each, parameter] of decoder.namedParameters()) {
        const [norm, product] = expected.gradients[each]!;
        expect(parameter.grad!.norm().item(), each).toBeCloseTo(norm, 4);
        expect(parameter.grad!.mul(fill(parameter.shape, 3)).sum().item(), each).toBeCloseTo(product, 3);
      }
    });
  }
});

describe("the contrastive loss", () => {
  test("is 2 tau ln B where all logits are alike, and twice that over both views", () => {
    for (const [B, tau] of [
      [2, 1],
      [7, 0.2],
    ] as const) {
      const same = ones([B, 5]);
      expect(infoNce(same, same, tau).loss.item()).toBeCloseTo(2 * tau * Math.log(B), 5);
    }
    const [level] = new MocoV3(mocoV3Options.parse(moco), { ...context(fixedVit), batchSize: 32 }).trivialLevels;
    expect(level!.value).toBeCloseTo(4 * 0.2 * Math.log(32), 6);
  });

  test("does not depend on the lengths of queries and keys", () => {
    const [q, k] = [fill([4, 6], 1), fill([4, 6], 2)];
    expect(infoNce(q.mul(3), k.mul(0.1), 0.2).loss.item()).toBeCloseTo(infoNce(q, k, 0.2).loss.item(), 5);
  });
});

describe("traps of MoCo v3", () => {
  const batch = () => formulaBatch(0, { locals: 0 });

  test("momentum runs along a cosine from m to 1 over the steps, or stays", () => {
    const method = makeMoco({ momentum: 0.99 });
    expect(method.momentumAt({ step: 0, totalSteps: 10 })).toBeCloseTo(0.99, 12);
    expect(method.momentumAt({ step: 5, totalSteps: 10 })).toBeCloseTo(0.995, 12);
    expect(method.momentumAt({ step: 10, totalSteps: 10 })).toBeCloseTo(1, 12);
    expect(makeMoco({ momentumSchedule: "constant" }).momentumAt({ step: 9, totalSteps: 10 })).toBe(0.9);
  });

  test("the momentum encoder moves once a step however many batches it has, with the weights the optimiser left and the next step's m", () => {
    const method = prepare(makeMoco());
    const weights = (network: Module) => network.stateDict().get("head.0.weight")!;
    const before = copyOf(method.momentum.stateDict());
    const moved = () =>
      changed(method.momentum.stateDict(), before).filter((name) => !name.includes("running") && !name.includes("num_"));
    for (let batches = 0; batches < 2; batches++) tidy(() => void method.step(batch(), at(3)));
    expect(moved()).toEqual([]);
    noGrad(() => void weights(method.trainable.online).add_(1));
    method.afterStep(at(3));
    expect(moved()).toEqual(["head.0.weight"]);
    const m = method.momentumAt({ step: 4, totalSteps: 10 });
    const distance = weights(method.momentum).sub(before.get("head.0.weight")!);
    expect(distance.amin().item()).toBeCloseTo(1 - m, 5);
    expect(distance.amax().item()).toBeCloseTo(1 - m, 5);
    // After the last step m is 1: it stays where it made the last keys.
    const last = copyOf(method.momentum.stateDict());
    method.afterStep(at(9));
    expect(changed(method.momentum.stateDict(), last)).toEqual([]);
  });

  test("running statistics of the momentum encoder are its own, not averaged", () => {
    const method = prepare(makeMoco());
    // Both start from the same weights, which would give the same statistics.
    noGrad(() => void method.momentum.stateDict().get("head.0.weight")!.mul_(2));
    tidy(() => void method.step(batch(), at(0)));
    const mean = (network: Module) => network.stateDict().get("head.1.running_mean")!;
    expect(mean(method.momentum).equal(mean(method.trainable.online))).toBe(false);
    expect(method.momentum.stateDict().get("head.1.num_batches_tracked")!.item()).toBe(2);
  });

  test("a view's batch statistics do not depend on the other view", () => {
    const one = prepare(makeMoco());
    const other = prepare(makeMoco());
    const [first, second] = batch().views.global!.unbind(0) as [Tensor, Tensor];
    const projected = (method: MocoV3, a: Tensor, b: Tensor) =>
      method.trainable.online.call(stack([a, b]).flatten(0, 1), { classOnly: true }).projected[0].tolist();
    expect(projected(one, first, second)).toEqual(projected(other, first, second.mul(3)));
  });

  test("the patch projection is frozen, tokens that both encoders share are made once and give the plain way's loss and gradients", () => {
    const gradients = (freezePatchProjection: boolean) => {
      const method = prepare(makeMoco({ freezePatchProjection }));
      let made = 0;
      const embed = method.online.patchEmbed.call.bind(method.online.patchEmbed);
      method.online.patchEmbed.call = (...given) => {
        made += 1;
        return embed(...given);
      };
      const { loss } = method.step(batch(), at(0));
      loss.backward();
      expect(made).toBe(1);
      const named = [...method.trainable.namedParameters()];
      const projection = named.filter(([name]) => name.includes("patch_embed"));
      expect(projection.every(([, each]) => (each.grad === null) === freezePatchProjection)).toBe(true);
      const others = named.filter(([name]) => !name.includes("patch_embed"));
      return [loss.item(), ...others.map(([, each]) => each.grad!.norm().item())];
    };
    const plain = gradients(false);
    for (const [i, value] of gradients(true).entries()) expect(value).toBeCloseTo(plain[i]!, 4);
  });

  test("heads keep torch's own start, whatever the encoder's is", () => {
    manualSeed(3);
    const { online, predictor } = makeMoco({ hidden: 64, outFeatures: 48 }).trainable;
    const weights = [...online.head.namedParameters(), ...predictor.namedParameters()].filter(([, each]) => each.ndim === 2);
    expect(weights.map(([, each]) => each.shape)).toEqual([
      [64, 16],
      [64, 64],
      [48, 64],
      [64, 48],
      [48, 64],
    ]);
    for (const [, weight] of weights) {
      const bound = 1 / Math.sqrt(weight.size(1));
      const largest = weight.abs().amax().item();
      expect(largest).toBeLessThanOrEqual(bound);
      expect(largest).toBeGreaterThan(0.97 * bound);
    }
  });

  test("the optimiser decays everything that is trained, and the predictor belongs to the queries only", () => {
    const method = makeMoco();
    expect(method.decayRule).toBe("all");
    expect([...method.momentum.stateDict().keys()].some((name) => name.includes("predictor"))).toBe(false);
    expect(mocoV3.defaults!(method.options).model!.vit).toEqual({ positions: "sin-cos", init: "moco-v3" });
    expect(mocoV3.check!(method.options, { batchSize: 1 } as never)).toHaveLength(1);
  });
});

describe("RePre", () => {
  test("levels: so many at equal distances, or these; what does not exist is refused", () => {
    expect(levelsOf(4, 12)).toEqual([2, 5, 8, 11]);
    expect(levelsOf(4, 4)).toEqual([0, 1, 2, 3]);
    expect(levelsOf(4, 6)).toEqual([1, 2, 4, 5]);
    expect(levelsOf(1, 12)).toEqual([11]);
    expect(levelsOf(9, 3)).toEqual([0, 1, 2]);
    expect(levelsOf([-1, 2, 2], 5)).toEqual([2, 4]);
    expect(repre.check!(repreOptions.parse({ levels: [7] }), { depth: 4, batchSize: 8 } as never)).toEqual([
      { path: "levels", message: "is [7]: level 7 does not exist: the encoder has levels 0 to 3" },
    ]);
  });

  test("the framework's loss is what it is without the branch, and lambda 0 leaves its gradients alone", () => {
    for (const framework of [overMoco, { name: "dino", ...dino }]) {
      const vit = framework.name === "dino" ? tinyVit : fixedVit;
      const method = prepare(makeRepre(framework, { lambda: 0 }, vit));
      const bare = prepare(framework.name === "dino" ? makeBareDino() : makeMoco());
      const own = method.step(formulaBatch(0, { locals: 0 }), at(1));
      const alone = bare.step(formulaBatch(0, { locals: 0 }), at(1));
      own.loss.backward();
      alone.loss.backward();
      expect(own.loss.item()).toBeCloseTo(alone.loss.item(), 5);
      const gradients = new Map(bare.trainable.namedParameters());
      for (const [name, each] of method.framework.trainable.namedParameters()) {
        const wanted = gradients.get(name)!.grad;
        if (wanted) expect(each.grad!.sub(wanted).norm().item(), name).toBeLessThan(1e-3 * (wanted.norm().item() + 1e-2));
      }
    }
  });
  const makeBareDino = () => makeRepre({ name: "dino", ...dino }, {}, tinyVit).framework as Dino;

  test("its state has framework and decoder, and goes on to the same bits", () => {
    manualSeed(1);
    const step = (method: Method, optimizer: AdamW, n: number) =>
      trainStep(method, optimizer, formulaBatch(n, { locals: 0 }), at(n, { totalSteps: 4 }));
    const make = () => {
      const method = makeRepre(overMoco);
      return { method, optimizer: new AdamW(decayGroups(method.trainable, "all"), { lr: 1e-2 }) };
    };
    const whole = make();
    for (let n = 0; n < 2; n++) step(whole.method, whole.optimizer, n);
    const resumed = make();
    noGrad(() => {
      for (const [name, tensor] of resumed.method.state()) tensor.copy_(whole.method.state().get(name)!);
    });
    resumed.optimizer.loadStateDict(whole.optimizer.stateDict());
    for (let n = 2; n < 4; n++) for (const { method, optimizer } of [whole, resumed]) step(method, optimizer, n);
    expect(changed(resumed.method.state(), whole.method.state())).toEqual([]);
    expect([...whole.method.state().keys()].filter((name) => name.startsWith("decoder.")).length).toBeGreaterThan(5);
  });

  test("a logged step measures the loss with the deepest level of another image, and leaves no trace", () => {
    for (const levels of [2, 1]) {
      const [logged, silent] = [0, 0].map(() => prepare(makeRepre(overMoco, { levels })));
      const [yes, no] = [logged!, silent!].map((method, i) => {
        const { metrics = {} } = method.step(formulaBatch(0, { locals: 0 }), at(0, { report: i === 0 }));
        return metrics;
      });
      expect(Object.keys(yes!).sort()).toEqual(["accuracy", "featureStd", "recMixed"]);
      expect(no).toEqual({});
      expect(changed(logged!.state(), silent!.state())).toEqual([]);
    }
    // By hand: without batch norm an image's reconstruction depends on its own levels only.
    const method = prepare(makeRepre(overMoco, { decoderBatchNorm: false }));
    const images = fill([3, 3, 16, 16], 5).float();
    const { levels } = method.framework.online.call(images, { levels: method.levels });
    const [shallow, deep] = levels as [Tensor, Tensor];
    const single = [0, 1, 2].map((i) => {
      const mixed = { levels: [shallow.narrow(0, i, 1), deep.narrow(0, (i + 1) % 3, 1)] };
      return method.distance(mixed, images.narrow(0, i, 1)).item();
    });
    expect(method.recMixed({ levels }, images).item()).toBeCloseTo((single[0]! + single[1]! + single[2]!) / 3, 5);
  });

  test("over a Swin: the stages on their own grids, also where merging fills a side up", () => {
    for (const [framework, form, size] of [
      [overMoco, "deconvolution", 28],
      [{ name: "dino", ...dino }, "sub-pixel", 32],
      [overMoco, "sub-pixel", 20],
    ] as const) {
      const config = { imageSize: size, patchSize: 4, embedDim: 8, depths: [1, 1, 1], heads: [1, 2, 2], windowSize: 4 };
      const method = new Repre(repreOptions.parse({ framework, decoderWidth: 12, decoderForm: form }), {
        ...context(),
        encoder: () => new SwinTransformer(config),
      });
      expect(method.levels).toEqual([0, 1, 2]);
      const images = fill([2, 4, 3, size, size], 7).float();
      const encoded = method.framework.online.call(images.flatten(0, 1), { levels: method.levels });
      expect(method.decode(encoded, images.flatten(0, 1)).shape).toEqual([8, 3, size, size]);
      method.step({ views: { global: images }, index: new Int32Array(4) }, at(1)).loss.backward();
      const without = [...method.trainable.namedParameters()].filter(([, each]) => each.requiresGrad && each.grad === null);
      expect(without.map(([name]) => name)).toEqual([]);
    }
  });

  test("draws the original and its reconstruction, and what the framework shows, without a trace", () => {
    for (const [framework, vit] of [
      [overMoco, fixedVit],
      [{ name: "dino", ...dino }, tinyVit],
    ] as const) {
      const method = makeRepre(framework, {}, vit);
      method.trainable.train(false);
      const before = copyOf(method.state());
      for (const count of [1, 3]) {
        const pictures = method.picture({ views: { global: randn([2, count, 3, 16, 16]) }, index: new Int32Array(count) });
        expect(pictures.map(({ name }) => name)).toEqual(["reconstruction", "matches", "attention"]);
        for (const { image } of pictures) expect(image.width).toBeGreaterThan(count * 100);
      }
      expect(changed(method.state(), before)).toEqual([]);
    }
  });

  test("shows for each view the nearest other image", () => {
    // Images 0 and 2 are alike, and so are 1 and 3: whatever the weights, their features are nearest.
    const [a, b] = [fill([3, 16, 16], 1).float(), fill([3, 16, 16], 4).float()];
    const view = stack([a, b, a.mul(1.01), b.mul(1.01)]);
    const method = makeMoco();
    const { image } = method.picture({ views: { global: stack([view, view]) }, index: new Int32Array(4) })[0]!;
    // Rows of cells of 128 px with 6 between them, at the right of their labels.
    const cell = (row: number, column: number) => {
      const [x, y] = [image.width - (4 - column) * 134, 6 + row * 134];
      return Array.from({ length: 128 }, (_, i) =>
        image.data.slice(((y + i) * image.width + x) * 3, ((y + i) * image.width + x + 128) * 3),
      );
    };
    for (const [i, other] of [2, 3, 0, 1].entries()) expect(cell(2, i)).toEqual(cell(1, other));
    expect(cell(2, 0)).not.toEqual(cell(2, 1));
  });
});
