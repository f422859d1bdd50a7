// DINO step by step: against tests/reference/dino_mst.py, and every trap of the reference code by itself.
import { describe, expect, test } from "vitest";
import { Dino, dino, dinoOptions, teacherTemperature } from "../../src/methods/index.js";
import { AdamW, decayGroups, SGD } from "../../src/optim/index.js";
import { fromTypedArray, manualSeed, memoryStats, noGrad, randn, type Tensor } from "../../src/torch/index.js";
import { expectClose, fill, readGolden, type Stored, testRegenerates } from "../reference/golden.js";
import { setWeights } from "../reference/vit-weights.js";
import { at, changed, context, copyOf, formulaBatch, tinyVit, trainStep } from "./support.js";

interface Step {
  loss: number;
  entropy: number;
  kl: number;
  "feature std": number;
  gradients: Record<string, [norm: number, product: number]>;
  teacher: Record<string, number>;
  center: Stored;
}
const golden = readGolden<Record<string, Step[]>>("dino_mst");

const head = { outFeatures: 24, hidden: 20, bottleneck: 12 };
const crops = { globalSize: 16, localSize: 8, locals: 3 };
const parse = (changes: object = {}) =>
  dinoOptions.parse({
    crops,
    head,
    momentum: 0.9,
    teacherTemperature: { from: 0.04, to: 0.07, epochs: 3 },
    ...changes,
  });
const make = (changes: object = {}, vit = tinyVit) => new Dino(parse(changes), context(vit));
/** With the program's weights in student and teacher. */
function prepared(changes: object = {}): Dino {
  const method = make(changes);
  setWeights(method.student);
  setWeights(method.teacher);
  return method;
}

const cases: Record<string, [changes: object, locals: number]> = {
  dino: [{}, 3],
  "dino with batch norm, never frozen": [{ head: { ...head, batchNorm: true }, freezeLastLayer: 0 }, 3],
  "dino without local crops": [{ crops: { ...crops, locals: 0 } }, 0],
};

describe("two steps as the reference program makes them", () => {
  for (const [name, [changes, locals]] of Object.entries(cases)) {
    test(`${name}: loss, measurements, gradients, teacher, centre`, () => {
      const method = prepared(changes);
      const optimizer = new SGD(decayGroups(method.trainable, "all"), { lr: 0.5 });
      for (const [step, expected] of golden[name]!.entries()) {
        const close = (value: number, wanted: number, what: string, scale = Math.abs(wanted)) =>
          expect(Math.abs(value - wanted), `${what} at step ${step}: ${value}, expected ${wanted}`).toBeLessThan(
            2e-5 * (1 + scale),
          );
        trainStep(method, optimizer, formulaBatch(step, { locals }), at(step, { report: true }), ({ loss, terms, metrics }) => {
          close(loss.item(), expected.loss, "loss");
          close(terms.ce!.item(), expected.loss, "ce");
          close(metrics!.teacherEntropy!.item(), expected.entropy, "entropy");
          close(metrics!.kl!.item(), expected.kl, "kl");
          close(metrics!.featureStd!.item(), expected["feature std"], "feature std");
          const frozen = step < method.options.freezeLastLayer;
          for (const [each, parameter] of method.student.namedParameters()) {
            const wanted = expected.gradients[`student.${each}`];
            const gradient = parameter.grad;
            if (each.includes("last_layer") && frozen) {
              expect(gradient, each).toBeNull();
              continue;
            }
            if (!wanted) {
              expect(gradient, each).toBeNull();
              continue;
            }
            const scale = wanted[0] * Math.sqrt(gradient!.numel);
            close(gradient!.norm().item(), wanted[0], `norm of the gradient of ${each}`, scale);
            close(gradient!.mul(fill(gradient!.shape, 3).float()).sum().item(), wanted[1], `gradient of ${each}`, scale);
          }
        });
        expectClose(method.center, { ...expected.center, dtype: "float64" }, 1e-5, `centre after step ${step}`);
        const teacher = new Map(method.teacher.stateDict());
        for (const [each, product] of Object.entries(expected.teacher)) {
          const own = teacher.get(each)!;
          close(own.mul(fill(own.shape, 3).float()).sum().item(), product, `teacher's ${each}`, Math.sqrt(own.numel));
        }
      }
    });
  }
  testRegenerates("dino_mst");
});

describe("the teacher", () => {
  test("starts as the student's copy, has no gradients and is not trained", () => {
    const method = make();
    const student = method.student.stateDict();
    for (const [name, each] of method.teacher.stateDict()) expect(each.equal(student.get(name)!), name).toBe(true);
    method.step(formulaBatch(0), at(0)).loss.backward();
    for (const [name, each] of method.teacher.namedParameters()) {
      expect(each.requiresGrad, name).toBe(false);
      expect(each.grad, name).toBeNull();
    }
    const trained = new Set(method.trainable.parameters());
    expect(method.teacher.parameters().some((each) => trained.has(each))).toBe(false);
  });
  test("sees the global crops only", () => {
    const method = prepared();
    const seen: number[][] = [];
    const call = method.teacher.backbone.call.bind(method.teacher.backbone);
    method.teacher.backbone.call = (images: Tensor, ...rest) => {
      seen.push(images.shape);
      return call(images, ...rest);
    };
    const batch = formulaBatch(0);
    const before = method.teach(batch, at(0)).distribution;
    expect(seen).toEqual([[8, 3, 16, 16]]);
    expect(before.shape).toEqual([2, 4, 24]);
    const other = { ...batch, views: { ...batch.views, local: randn([3, 4, 3, 8, 8]) } };
    expect(method.teach(other, at(0)).distribution.equal(before)).toBe(true);
  });
  test("stays in train mode, but has no drop path", () => {
    const method = make({}, { ...tinyVit, dropPath: 0.9 });
    expect(method.teacher.training).toBe(true);
    const batch = formulaBatch(0);
    const twice = () => method.teach(batch, at(0)).distribution;
    expect(twice().equal(twice())).toBe(true);
    const student = () => method.study(batch).logits;
    expect(student().equal(student())).toBe(false);
  });
  test("with batch norm it uses the batch's statistics, and keeps its own running ones", () => {
    const method = make({ head: { ...head, batchNorm: true } });
    const optimizer = new SGD(decayGroups(method.trainable), { lr: 0.1 });
    trainStep(method, optimizer, formulaBatch(0), at(0));
    const [own, students] = [method.teacher, method.student].map((each) => each.stateDict().get("head.mlp.1.running_mean")!);
    expect(own!.abs().sum().item()).toBeGreaterThan(0);
    // The student's batch has local crops too.
    expect(own!.equal(students!)).toBe(false);
  });
  test("moves to m teacher + (1 - m) student after the student's step, on a cosine from the start value to 1", () => {
    for (const step of [0, 3, 5, 9]) {
      const method = make({ momentum: 0.8 });
      noGrad(() => method.student.parameters().forEach((each) => void (each.requiresGrad && each.add_(0.1))));
      const optimizer = new SGD(decayGroups(method.trainable), { lr: 0.1 });
      const before = copyOf(method.teacher.stateDict());
      trainStep(method, optimizer, formulaBatch(0), at(step));
      const m = 1 - ((1 - 0.8) * (1 + Math.cos((Math.PI * step) / 10))) / 2;
      const student = method.student.stateDict();
      for (const [name, each] of method.teacher.stateDict()) {
        const expected = noGrad(() =>
          before
            .get(name)!
            .mul(m)
            .add(student.get(name)!, { alpha: 1 - m }),
        );
        expect(each.sub(expected).abs().amax().item(), name).toBeLessThan(1e-6);
      }
    }
  });
  test("end points of its momentum: the start value at step 0, and at the run's end it does not move", () => {
    const half = make({ momentum: 0.5 });
    const name = "backbone.norm.bias";
    const value = (method: Dino, network: "student" | "teacher") => method[network].stateDict().get(name)!;
    noGrad(() => value(half, "student").fill_(1));
    half.afterStep(at(0));
    expect(value(half, "teacher").toArray()).toEqual(Array(16).fill(0.5));
    const before = copyOf(half.teacher.stateDict());
    half.afterStep(at(10));
    expect(changed(half.teacher.stateDict(), before)).toEqual([]);
    const frozen = make({ momentum: 1 });
    noGrad(() => value(frozen, "student").fill_(1));
    frozen.afterStep(at(0));
    expect(value(frozen, "teacher").toArray()).toEqual(Array(16).fill(0));
    const copy = make({ momentum: 0 });
    noGrad(() => value(copy, "student").fill_(1));
    copy.afterStep(at(0));
    expect(value(copy, "teacher").toArray()).toEqual(Array(16).fill(1));
  });
});

describe("the centre", () => {
  test("is 0.1 of the mean raw logits after one step, and the step's loss used the old one", () => {
    const method = prepared();
    const batch = formulaBatch(0);
    const raw = noGrad(() => method.teacher.call([{ images: batch.views.global!.flatten(0, 1), options: {} }]).logits);
    const first = method.step(batch, at(0)).loss.item();
    expect(method.center.abs().sum().item()).toBe(0);
    method.afterStep(at(10));
    expect(
      method.center
        .sub(raw.mean(0, { keepdim: true }).mul(0.1))
        .abs()
        .amax()
        .item(),
    ).toBeLessThan(1e-7);
    // The teacher stood still (m = 1), so only the centre can change the loss.
    const second = method.step(batch, at(0)).loss.item();
    expect(second).not.toBe(first);
    method.afterStep(at(10));
    const expected = raw.mean(0, { keepdim: true }).mul(0.1 * (1 + 0.9));
    expect(method.center.sub(expected).abs().amax().item()).toBeLessThan(1e-6);
  });
  test("is not moved by a step that made no forward pass", () => {
    const method = prepared();
    noGrad(() => method.center.fill_(0.5));
    method.afterStep(at(0));
    expect(method.center.toArray()).toEqual(Array(24).fill(0.5));
  });
  test("gradient accumulation makes the step of the large batch: gradients, centre, teacher", () => {
    const whole = formulaBatch(0, { batch: 4 });
    const part = (from: number) => ({
      views: Object.fromEntries(Object.entries(whole.views).map(([name, each]) => [name, each.narrow(1, from, 2).contiguous()])),
      index: whole.index.slice(from, from + 2),
    });
    const [one, two] = [prepared({ freezeLastLayer: 0 }), prepared({ freezeLastLayer: 0 })];
    one.step(whole, at(0)).loss.backward();
    for (const from of [0, 2]) two.step(part(from), at(0)).loss.div(2).backward();
    const theirs = new Map(two.student.namedParameters());
    for (const [name, each] of one.student.namedParameters()) {
      if (!each.requiresGrad) continue;
      const [a, b] = [each.grad!, theirs.get(name)!.grad!];
      expect(a.sub(b).abs().amax().item(), name).toBeLessThan(1e-5 * Math.max(1, a.abs().amax().item()));
    }
    for (const method of [one, two]) {
      new SGD(decayGroups(method.trainable), { lr: 0.1 }).step();
      method.afterStep(at(0));
    }
    expect(one.center.sub(two.center).abs().amax().item()).toBeLessThan(1e-7);
    expect(one.center.abs().amax().item()).toBeGreaterThan(0.01);
    const after = two.state();
    for (const [name, each] of one.state()) expect(each.sub(after.get(name)!).abs().amax().item(), name).toBeLessThan(1e-5);
  });
});

describe("the last layer", () => {
  const lastLayers = (method: Dino) => copyOf(method.student.head.lastLayer.stateDict());
  for (const normLastLayer of [true, false]) {
    test(`frozen: no gradient, and AdamW leaves it bit for bit, decay included${normLastLayer ? "" : ", lengths too"}`, () => {
      const method = make({ head: { ...head, normLastLayer }, freezeLastLayer: 2 });
      const optimizer = new AdamW(decayGroups(method.trainable, "no-bias-norm"), { lr: 0.01, weightDecay: 0.4 });
      const start = lastLayers(method);
      const rest = copyOf(method.student.head.mlp.stateDict());
      for (const step of [0, 1]) {
        trainStep(method, optimizer, formulaBatch(step), at(step), () => {
          for (const each of method.student.head.lastLayer.parameters()) expect(each.grad).toBeNull();
          expect(method.student.head.mlp.parameters().every((each) => each.grad !== null)).toBe(true);
        });
        expect(changed(method.student.head.lastLayer.stateDict(), start)).toEqual([]);
      }
      expect(changed(method.student.head.mlp.stateDict(), rest).length).toBeGreaterThan(0);
      trainStep(method, optimizer, formulaBatch(2), at(2));
      expect(changed(method.student.head.lastLayer.stateDict(), start).sort()).toEqual(
        normLastLayer ? ["weight_v"] : ["weight_g", "weight_v"],
      );
    });
  }
  test("the weight decay is not applied to biases and norms, but to class token and positions", () => {
    const [decayed, spared] = decayGroups(make().trainable, "no-bias-norm");
    expect(decayed!.names).toEqual(
      expect.arrayContaining(["backbone.cls_token", "backbone.pos_embed", "head.last_layer.weight_v"]),
    );
    expect(decayed!.names.some((name) => /bias$|norm/.test(name))).toBe(false);
    expect(spared!.names.every((name) => /bias$|norm/.test(name))).toBe(true);
    // Frozen lengths are in no group.
    expect([...decayed!.names, ...spared!.names]).not.toContain("head.last_layer.weight_g");
  });
});

describe("the teacher's temperature", () => {
  const all = (from: number, to: number, epochs: number, run = 8) =>
    Array.from({ length: run }, (_, epoch) =>
      teacherTemperature(dinoOptions.parse({ teacherTemperature: { from, to, epochs } }), epoch),
    );
  test("is numpy's linspace over the warm-up epochs, then constant", () => {
    // np.concatenate((np.linspace(0.04, 0.07, 4), np.ones(4) * 0.07))
    const expected = [0.04, 0.05, 0.06, 0.07, 0.07, 0.07, 0.07, 0.07];
    for (const [epoch, value] of all(0.04, 0.07, 4).entries()) expect(value).toBeCloseTo(expected[epoch]!, 12);
  });
  test("a warm-up of one epoch has the first value, of none the last", () => {
    expect(all(0.04, 0.07, 1, 3)).toEqual([0.04, 0.07, 0.07]);
    expect(all(0.04, 0.07, 0, 2)).toEqual([0.07, 0.07]);
  });
  test("changes with the epoch, not with the step", () => {
    const method = prepared();
    const batch = formulaBatch(0);
    const P = (step: number, epoch: number) => method.teach(batch, at(step, { epoch })).distribution;
    expect(P(1, 0).equal(P(9, 0))).toBe(true);
    expect(P(1, 0).equal(P(1, 1))).toBe(false);
  });
});

describe("the step as a whole", () => {
  test("starts near ln K", () => {
    manualSeed(1);
    const K = 4096;
    const method = make({ head: { outFeatures: K, hidden: 64 }, teacherTemperature: {} }, { ...tinyVit, width: 32 });
    const batch = { views: { global: randn([2, 16, 3, 16, 16]), local: randn([6, 16, 3, 8, 8]) }, index: new Int32Array(16) };
    const loss = method.step(batch, at(0)).loss.item();
    // Cosines with 256 random directions have a variance of 1 / 256. Where student and teacher agree wholly, that is worth
    // (1 / 256) / (0.1 * 0.04) nats, less half of (1 / 256) / 0.1^2 for the spread of the student's own logits.
    const agreement = 1 / 256 / (0.1 * 0.04) - 1 / 256 / 0.1 ** 2 / 2;
    expect(loss).toBeGreaterThan(Math.log(K) - agreement - 0.2);
    expect(loss).toBeLessThan(Math.log(K) + 0.3);
    expect(method.trivialLevels[0]!.value).toBeCloseTo(Math.log(K), 10);
  });
  test("images in another order give the same loss", () => {
    const method = prepared();
    const batch = formulaBatch(0);
    const order = fromTypedArray(BigInt64Array.from([2n, 0n, 3n, 1n]));
    const views = Object.fromEntries(Object.entries(batch.views).map(([name, each]) => [name, each.indexSelect(1, order)]));
    const [a, b] = [batch, { ...batch, views }].map((each) => method.step(each, at(0)).loss.item());
    expect(Math.abs(a! - b!)).toBeLessThan(1e-6 * a!);
  });
  test("one call of the encoder for each size, one of the head for all", () => {
    const method = prepared();
    const sizes: number[][] = [];
    const features: number[][] = [];
    const { backbone, head: projection } = method.student;
    const [encode, project] = [backbone.call.bind(backbone), projection.call.bind(projection)];
    backbone.call = (images, ...rest) => {
      sizes.push(images.shape);
      return encode(images, ...rest);
    };
    projection.call = (x) => {
      features.push(x.shape);
      return project(x);
    };
    method.study(formulaBatch(0));
    expect(sizes).toEqual([[8, 3, 16, 16], [12, 3, 8, 8]]); // biome-ignore format: shapes
    expect(features).toEqual([[20, 16]]);
  });
  test("measures only when a report is asked for", () => {
    const method = prepared();
    expect(method.step(formulaBatch(0), at(0)).metrics).toBeUndefined();
    expect(Object.keys(method.step(formulaBatch(0), at(0, { report: true })).metrics!)).toEqual([
      "teacherEntropy",
      "kl",
      "featureStd",
    ]);
  });
  test("state() is complete: copied back after other steps, the next step is the same bit for bit", () => {
    for (const batchNorm of [false, true]) {
      const method = prepared({ head: { ...head, batchNorm, normLastLayer: false }, freezeLastLayer: 0 });
      const optimizer = new SGD(decayGroups(method.trainable), { lr: 0.1 });
      trainStep(method, optimizer, formulaBatch(0), at(0));
      const saved = copyOf(method.state());
      const next = () => {
        const loss = trainStep(method, optimizer, formulaBatch(1), at(1), (result) => result.loss.item());
        return { loss, state: copyOf(method.state()) };
      };
      const first = next();
      trainStep(method, optimizer, formulaBatch(2), at(2));
      const moved = changed(method.state(), saved);
      expect(moved).toEqual([...saved.keys()]);
      noGrad(() => {
        for (const [name, each] of method.state()) each.copy_(saved.get(name)!);
      });
      const again = next();
      expect(again.loss).toBe(first.loss);
      expect(changed(again.state, first.state)).toEqual([]);
    }
  });
  test("initEncoder starts student and teacher from given weights and leaves the heads", () => {
    const [method, other] = [make(), make()];
    const before = copyOf(method.student.head.stateDict());
    method.initEncoder(other.encoder.stateDict());
    for (const network of [method.student, method.teacher]) {
      expect(changed(network.backbone.stateDict(), copyOf(other.encoder.stateDict()))).toEqual([]);
      expect(changed(network.head.stateDict(), before)).toEqual([]);
    }
  });
  test("leaves no handle behind", () => {
    const method = make();
    const optimizer = new AdamW(decayGroups(method.trainable), { lr: 1e-3 });
    const counts: number[] = [];
    const batch = formulaBatch(0);
    for (let step = 0; step < 6; step++) {
      trainStep(method, optimizer, batch, at(step, { report: step % 2 === 0 }));
      counts.push(memoryStats().handles);
    }
    expect(new Set(counts.slice(2)).size).toBe(1);
  });
});

describe("options", () => {
  test("defaults are the reference code's", () => {
    const options = dino.options.parse({}) as ReturnType<typeof dinoOptions.parse>;
    expect(options.head).toEqual({
      outFeatures: 65536,
      hidden: 2048,
      bottleneck: 256,
      layers: 3,
      batchNorm: false,
      normLastLayer: true,
    });
    expect(options).toMatchObject({ studentTemperature: 0.1, momentum: 0.996, centerMomentum: 0.9, freezeLastLayer: 1 });
    expect(options.teacherTemperature).toEqual({ from: 0.04, to: 0.04, epochs: 0 });
    expect(options.crops).toMatchObject({
      globalSize: 224,
      globalScale: [0.4, 1],
      locals: 8,
      localSize: 96,
      localScale: [0.05, 0.4],
    });
  });
  test("the views are DINO's: blur 1, 0.1 and 0.5, solarise on the second global crop only, globals first", () => {
    const { views } = new Dino(parse({ crops: { ...crops, locals: 2 } }), context());
    expect(views.views.map(({ name, size, crops: each }) => [name, size, each.length])).toEqual([
      ["global", [16, 16], 2],
      ["local", [8, 8], 2],
    ]);
    const kinds = views.views.flatMap((view) => view.crops.map((each) => each.map((transform) => transform.op)));
    const common = ["randomResizedCrop", "horizontalFlip", "colorJitter", "grayscale", "gaussianBlur"];
    expect(kinds).toEqual([common, [...common, "solarize"], common, common]);
  });
  test("without local crops there is one group of views, and without colours no grey", () => {
    const { views } = new Dino(parse({ crops: { ...crops, locals: 0 } }), context({ ...tinyVit, channels: 1 }));
    expect(views.views.map((view) => view.name)).toEqual(["global"]);
    expect(views.views[0]!.crops[0]!.map((each) => each.op)).not.toContain("grayscale");
  });
  test("unknown ones are refused", () => {
    expect(() => dino.options.parse({ temperature: 1 })).toThrow(/temperature/);
  });
});
