// MST step by step: against tests/reference/dino_mst.py, its options, and what the paper says must hold.
import { describe, expect, test } from "vitest";
import { Mst, type MstOptions, mst, mstOptions } from "../../src/methods/index.js";
import { AdamW, decayGroups, SGD } from "../../src/optim/index.js";
import { manualSeed, memoryStats, noGrad, rand, type Tensor, withFused } from "../../src/torch/index.js";
import { fill, readGolden, type Stored, valuesOf } from "../reference/golden.js";
import { setWeights, weightOf } from "../reference/vit-weights.js";
import { at, changed, context, copyOf, formulaBatch, tinyVit, trainStep } from "./support.js";

interface Step {
  loss: number;
  ce: number;
  restore: number;
  attention: Stored;
  mask: number[][] | null;
  gradients: Record<string, [norm: number, product: number]>;
  teacher: Record<string, number>;
}
const golden = readGolden<Record<string, Step[]>>("dino_mst");

const dino = {
  crops: { globalSize: 16, localSize: 8, locals: 3 },
  head: { outFeatures: 24, hidden: 20, bottleneck: 12 },
  momentum: 0.9,
  teacherTemperature: { from: 0.04, to: 0.07, epochs: 3 },
};
const decoder = { decoderWidth: 12, decoderNarrowest: 4 } as const;
const parse = (changes: object = {}): MstOptions => mstOptions.parse({ dino, num: 4, p: 1, ...decoder, ...changes });
const make = (changes: object = {}, vit = tinyVit) => new Mst(parse(changes), context(vit));
/** With the program's weights everywhere. */
function prepared(changes: object = {}): Mst {
  const method = make(changes);
  setWeights(method.dino.student);
  setWeights(method.dino.teacher);
  const { decoder: own, maskToken } = method.trainable;
  if (own) setWeights(own, "decoder.");
  noGrad(() => maskToken.copy_(weightOf("mask_token", [16])));
  return method;
}

const subPixel = { decoderForm: "sub-pixel", decoderBatchNorm: false } as const;
const cases: Record<string, object> = {
  mst: {},
  "mst sub-pixel": { num: 3, lambda1: 0.7, lambda2: 2, ...subPixel },
  "mst of masked patches, l2": { ...subPixel, region: "masked", distance: "l2" },
  "mst of the first view, smooth-l1": { ...subPixel, reconstruct: "first", distance: "smooth-l1" },
  "mst without mask": { mask: "none" },
  "mst without decoder": { decoder: "off" },
};

describe("two steps as the reference program makes them", () => {
  for (const [name, changes] of Object.entries(cases)) {
    test(`${name}: attention, mask, both terms, gradients of encoder, head, mask token and decoder, teacher`, () => {
      const method = prepared(changes);
      const optimizer = new SGD(decayGroups(method.trainable, "all"), { lr: 0.5 });
      for (const [step, expected] of golden[name]!.entries()) {
        const close = (value: number, wanted: number, what: string, scale = Math.abs(wanted)) =>
          expect(Math.abs(value - wanted), `${what} at step ${step}: ${value}, expected ${wanted}`).toBeLessThan(
            2e-5 * (1 + scale),
          );
        const masks: (Tensor | null)[] = [];
        const decide = method.mask.bind(method);
        method.mask = (images, attention) => {
          if (attention) {
            const mean = attention.slice(2, 1).mean(1).toArray();
            for (const [i, value] of valuesOf(expected.attention).entries()) close(mean[i]!, value, "attention");
          }
          masks.push(decide(images, attention));
          return masks.at(-1)!;
        };
        trainStep(method, optimizer, formulaBatch(step), at(step, { report: true }), ({ loss, terms, metrics }) => {
          close(loss.item(), expected.loss, "loss");
          close(terms.ce!.item(), expected.ce, "ce");
          if (method.trainable.decoder) close(terms.restore!.item(), expected.restore, "restore");
          else expect(terms.restore).toBeUndefined();
          const rows = masks[0]?.tolist() as number[][] | undefined;
          expect(rows?.map((row) => row.flatMap((masked, i) => (masked ? [i] : []))) ?? null).toEqual(expected.mask);
          if (expected.mask) expect(metrics!.maskedShare!.item()).toBeCloseTo(expected.mask.flat().length / (8 * 16), 6);
          for (const [each, parameter] of method.trainable.namedParameters()) {
            const wanted = expected.gradients[each];
            const gradient = parameter.grad;
            if (!wanted || (each.includes("last_layer") && step < 1)) {
              expect(gradient, each).toBeNull();
              continue;
            }
            const scale = wanted[0] * Math.sqrt(gradient!.numel);
            close(gradient!.norm().item(), wanted[0], `norm of the gradient of ${each}`, scale);
            close(gradient!.mul(fill(gradient!.shape, 3).float()).sum().item(), wanted[1], `gradient of ${each}`, scale);
          }
        });
        method.mask = decide;
        const teacher = method.dino.teacher.stateDict();
        for (const [each, product] of Object.entries(expected.teacher)) {
          const own = teacher.get(each)!;
          close(own.mul(fill(own.shape, 3).float()).sum().item(), product, `teacher's ${each}`, Math.sqrt(own.numel));
        }
      }
    });
  }
});

describe("masking", () => {
  test("never touches the teacher: its distribution does not depend on mask, num or p", () => {
    const batch = formulaBatch(0);
    const distribution = (changes: object) => {
      const method = prepared(changes);
      const teach = method.dino.teach.bind(method.dino);
      let seen: Tensor | undefined;
      method.dino.teach = (...given) => {
        const taught = teach(...given);
        seen = taught.distribution;
        return taught;
      };
      // In the form of attention that has weights to look at, masked or not: the other rounds otherwise, which the temperature enlarges.
      const loss = withFused(false, () => method.step(batch, at(0)).loss.item());
      return { seen: seen!, loss };
    };
    const plain = distribution({ mask: "none" });
    for (const changes of [
      { mask: "random", p: 0.7 },
      { mask: "attention", num: 1 },
      { mask: "attention", num: 8 },
    ]) {
      const masked = distribution(changes);
      expect(masked.seen.sub(plain.seen).abs().amax().item()).toBeLessThan(1e-6);
      expect(masked.loss).not.toBe(plain.loss);
    }
  });
  test("covers the student's global crops and no local ones", () => {
    const method = prepared();
    const seen: { size: number; masked: boolean }[] = [];
    const { backbone } = method.dino.student;
    const call = backbone.call.bind(backbone);
    backbone.call = (images, options) => {
      seen.push({ size: images.size(-1), masked: options?.mask !== undefined });
      return call(images, options);
    };
    method.step(formulaBatch(0), at(0));
    expect(seen).toEqual([{ size: 16, masked: true }, { size: 8, masked: false }]); // biome-ignore format: short
  });
  test("attention is asked of the teacher only where the mask needs it", () => {
    for (const [mask, wanted] of [
      ["attention", true],
      ["random", false],
      ["none", false],
    ] as const) {
      // biome-ignore format: short
      const method = prepared({ mask });
      const teach = method.dino.teach.bind(method.dino);
      const asked: unknown[] = [];
      method.dino.teach = (batch, progress, options) => {
        asked.push(options?.attention);
        return teach(batch, progress, options);
      };
      method.step(formulaBatch(0), at(0));
      expect(asked).toEqual([wanted]);
    }
  });
  test("the measured share is about p / num with attention and p at random", () => {
    const share = (changes: object) => {
      manualSeed(2);
      const method = make({ ...changes, decoder: "off" });
      const shares = Array.from({ length: 30 }, () =>
        method.step(formulaBatch(0), at(0, { report: true })).metrics!.maskedShare!.item(),
      );
      return shares.reduce((a, b) => a + b, 0) / 30;
    };
    const deviation = (p: number, draws: number) => 5 * Math.sqrt((p * (1 - p)) / draws);
    expect(Math.abs(share({ mask: "attention", num: 2, p: 0.5 }) - 0.25)).toBeLessThan(deviation(0.5, 30 * 8 * 8) / 2);
    expect(Math.abs(share({ mask: "random", p: 0.3 }) - 0.3)).toBeLessThan(deviation(0.3, 30 * 8 * 16));
    const none = make({ mask: "none" }).step(formulaBatch(0), at(0, { report: true }));
    expect(Object.keys(none.metrics!)).not.toContain("maskedShare");
  });
  test("without mask and decoder it is DINO", () => {
    const method = prepared({ mask: "none", decoder: "off" });
    const result = method.step(formulaBatch(0), at(0));
    expect(result.loss.item()).toBeCloseTo(golden.dino![0]!.loss, 4);
    expect(Object.keys(result.terms)).toEqual(["ce"]);
  });
});

describe("restoring", () => {
  test("the target is the whole view, masked patches and seen ones alike", () => {
    const method = prepared();
    const batch = formulaBatch(0);
    const restore = (views: Record<string, Tensor>) => method.step({ ...batch, views }, at(0)).terms.restore!.item();
    // A decoder that paints nothing costs the mean absolute pixel.
    noGrad(() => method.trainable.decoder!.pixels.parameters().forEach((each) => void each.zero_()));
    const views = batch.views as Record<string, Tensor>;
    expect(restore(views)).toBeCloseTo(views.global!.abs().mean().item(), 6);
  });
  test("of masked patches: nothing where none is masked, and what is seen does not count", () => {
    const method = prepared({ region: "masked", p: 0 });
    expect(method.step(formulaBatch(0), at(0)).terms.restore!.item()).toBe(0);
  });
  test("with lambda1 0 the head learns nothing; encoder, mask token and decoder do", () => {
    const method = prepared({ lambda1: 0 });
    method.step(formulaBatch(0), at(0)).loss.backward();
    for (const [name, each] of method.dino.student.head.namedParameters()) {
      if (each.requiresGrad) expect(each.grad!.abs().sum().item(), name).toBe(0);
    }
    expect(method.trainable.maskToken.grad!.abs().sum().item()).toBeGreaterThan(0);
    expect(method.trainable.decoder!.stem.weight.grad!.abs().sum().item()).toBeGreaterThan(0);
  });
  test("the loss is lambda1 ce + lambda2 restore", () => {
    const { loss, terms } = prepared({ lambda1: 0.3, lambda2: 1.7 }).step(formulaBatch(0), at(0));
    expect(loss.item()).toBeCloseTo(0.3 * terms.ce!.item() + 1.7 * terms.restore!.item(), 5);
    expect(mstOptions.parse({})).toMatchObject({ lambda1: 1, lambda2: 0.6, mask: "attention", decoder: "on" });
  });
  test("without the decoder there are no parameters of one, and the last block is computed for the class token only", () => {
    const method = prepared({ decoder: "off" });
    expect([...method.trainable.namedParameters()].some(([name]) => name.startsWith("decoder"))).toBe(false);
    const { backbone } = method.dino.student;
    const call = backbone.call.bind(backbone);
    const asked: unknown[] = [];
    backbone.call = (images, options) => {
      asked.push(options?.classOnly);
      return call(images, options);
    };
    const { terms } = method.step(formulaBatch(0), at(0));
    expect(asked).toEqual([true, true]);
    const whole = prepared().step(formulaBatch(0), at(0)).terms.ce!.item();
    expect(Math.abs(terms.ce!.item() - whole)).toBeLessThan(1e-5 * whole);
  });
});

describe("state", () => {
  test("names: DINO's, the mask token and the decoder, each once", () => {
    const names = [...make().state().keys()];
    expect(new Set(names).size).toBe(names.length);
    expect(names).toEqual(
      expect.arrayContaining([
        "student.backbone.cls_token",
        "teacher.head.last_layer.weight_g",
        "center",
        "mask_token",
        "decoder.stem.weight",
      ]),
    );
    const trained = [...make().trainable.stateDict().keys()];
    expect(trained.filter((name) => !names.includes(name))).toEqual([]);
    expect([...make({ decoder: "off" }).state().keys()].some((name) => name.startsWith("decoder"))).toBe(false);
  });
  test("is complete: saved, everything changed, copied back, the next step is the same bit for bit", () => {
    const method = prepared({
      mask: "random",
      p: 0.4,
      dino: { ...dino, head: { ...dino.head, normLastLayer: false }, freezeLastLayer: 0 },
    });
    const optimizer = new SGD(decayGroups(method.trainable), { lr: 0.1 });
    trainStep(method, optimizer, formulaBatch(0), at(0));
    const saved = copyOf(method.state());
    const next = () => {
      manualSeed(7);
      const loss = trainStep(method, optimizer, formulaBatch(1), at(1), (result) => result.loss.item());
      return { loss, state: copyOf(method.state()) };
    };
    const first = next();
    trainStep(method, optimizer, formulaBatch(2), at(2));
    expect(changed(method.state(), saved)).toEqual([...saved.keys()]);
    noGrad(() => {
      for (const [name, each] of method.state()) each.copy_(saved.get(name)!);
    });
    const again = next();
    expect(again.loss).toBe(first.loss);
    expect(changed(again.state, first.state)).toEqual([]);
  });
  test("the frozen last layer, the EMA and the centre are DINO's", () => {
    const method = make();
    const optimizer = new AdamW(decayGroups(method.trainable), { lr: 0.01, weightDecay: 0.4 });
    const before = copyOf(method.state());
    trainStep(method, optimizer, formulaBatch(0), at(0));
    const moved = changed(method.state(), before);
    expect(moved).not.toContain("student.head.last_layer.weight_v");
    expect(moved).toEqual(
      expect.arrayContaining(["center", "mask_token", "teacher.backbone.pos_embed", "decoder.pixels.weight"]),
    );
  });
  test("a mask token that was never used is left alone by AdamW, decay included", () => {
    const method = make({ mask: "none" });
    const optimizer = new AdamW(decayGroups(method.trainable, "all"), { lr: 0.01, weightDecay: 0.4 });
    const before = copyOf(method.state());
    trainStep(method, optimizer, formulaBatch(0), at(0));
    expect(changed(method.state(), before)).not.toContain("mask_token");
  });
  test("leaves no handle behind", () => {
    const method = make({ p: 0.5 });
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

describe("pictures", () => {
  test("show attention, and the reconstruction where there is a decoder", () => {
    const names = (changes: object) =>
      make(changes)
        .picture(formulaBatch(0))
        .map((each) => each.name);
    expect(names({})).toEqual(["reconstruction", "attention"]);
    expect(names({ mask: "none" })).toEqual(["reconstruction", "attention"]);
    expect(names({ decoder: "off" })).toEqual(["attention"]);
  });
  test("leave the method as it was: state, and the centre's next step", () => {
    const method = make();
    method.trainable.eval();
    const before = copyOf(method.state());
    for (const { image } of method.picture(formulaBatch(0))) expect(Math.min(image.width, image.height)).toBeGreaterThan(16);
    method.afterStep(at(10));
    expect(changed(method.state(), before)).toEqual([]);
  });
});

describe("options", () => {
  test("every combination of mask and decoder makes a step on images of one channel", () => {
    for (const mask of ["attention", "random", "none"]) {
      for (const restoring of ["on", "off"]) {
        const method = make({ mask, decoder: restoring, p: 0.5 }, { ...tinyVit, channels: 1 });
        const batch = { views: { global: rand([2, 2, 1, 16, 16]), local: rand([3, 2, 1, 8, 8]) }, index: new Int32Array(2) };
        const { loss, terms } = method.step(batch, at(0));
        loss.backward();
        expect(Number.isFinite(loss.item())).toBe(true);
        expect(Object.keys(terms)).toEqual(restoring === "on" ? ["ce", "restore"] : ["ce"]);
      }
    }
  });
  test("unknown ones and impossible values are refused", () => {
    for (const wrong of [{ masks: "none" }, { mask: "all" }, { num: 0.5 }, { p: 1.5 }, { lambda2: -1 }, { distance: "l3" }]) {
      expect(() => mst.options.parse(wrong)).toThrow();
    }
  });
});
