// Training with gradient checkpointing: the same losses and gradients for every method, and a run from a recipe.
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import type { Batch } from "../src/data/index.js";
import type { MethodSection } from "../src/methods/index.js";
import { autocast, getRngState, manualSeed, memoryStats, randn, setRngState, tidy } from "../src/torch/index.js";
import { ConfigError, createMethod, pretrain, type RecipeInput, resolveRecipe } from "../src/train/index.js";
import { collectGarbage } from "./garbage.js";
import { filesOf, readLines, timeless, tinyRecipe, trainingGround } from "./train-harness.js";

const ground = trainingGround();
afterAll(() => ground.remove());

const crops = { globalSize: 16 };
const dino = {
  crops: { ...crops, localSize: 8, locals: 2 },
  head: { outFeatures: 64, hidden: 64, bottleneck: 32 },
  freezeLastLayer: 0,
};
const moco = { crops, hidden: 64, outFeatures: 32 };
/** `modules`: how many have blocks that can be computed again. */
const methods: Record<string, { method: MethodSection; model?: RecipeInput["model"]; modules?: number }> = {
  dino: { method: { name: "dino", ...dino } },
  mst: { method: { name: "mst", dino, num: 2, decoderWidth: 32 } },
  "moco-v3": { method: { name: "moco-v3", ...moco } },
  repre: { method: { name: "repre", framework: { name: "moco-v3", ...moco }, levels: 2, decoderWidth: 32 } },
  mae: { method: { name: "mae", crops, decoderWidth: 32, decoderDepth: 1, decoderHeads: 2 }, modules: 2 },
  cae: { method: { name: "cae", crops, decoderHeads: 2, regressorDepth: 1, decoderDepth: 1 }, modules: 3 },
  randsac: { method: { name: "randsac", crops, decoderDepth: 2, decoderHeads: 2 }, model: { classToken: false }, modules: 2 },
  "dino over a Swin": {
    method: { name: "dino", ...dino },
    model: { name: "swin", patchSize: 4, embedDim: 16, depths: [2, 1], heads: [1, 2], windowSize: 2, dropPath: 0.3 },
  },
};

for (const [name, { method: section, model, modules = 1 }] of Object.entries(methods)) {
  it.each(["float32", "bfloat16"] as const)(`${name}: a step has the same loss and the same gradients in %s`, (precision) => {
    tidy(() => {
      const images = 4;
      const vit = { patchSize: 4, width: 32, depth: 3, heads: 2, dropPath: 0.3, ...model };
      const recipe = (gradientCheckpointing: boolean) =>
        resolveRecipe({
          data: { train: ground.data, channels: 3 },
          model: model && "name" in model ? model : (vit as RecipeInput["model"]),
          method: section,
          train: { batchSize: images, precision, gradientCheckpointing },
        });
      manualSeed(3);
      const state = getRngState();
      const seen = [false, true].map((on) => {
        const method = createMethod(recipe(on));
        const switches = [...method.trainable.namedModules()].flatMap(([, each]) =>
          "gradientCheckpointing" in each ? [each.gradientCheckpointing] : [],
        );
        expect(switches).toEqual(Array(modules).fill(on));
        setRngState(state);
        const views = method.views.views.map(
          ({ name, size, crops }) => [name, randn([crops.length, images, 3, ...size])] as const,
        );
        const batch: Batch = { views: Object.fromEntries(views), index: Int32Array.from({ length: images }, (_, i) => i) };
        const forward = () => method.step(batch, { step: 2, epoch: 1, epochs: 4, totalSteps: 8, stepsPerEpoch: 2, report: true });
        const { loss } = precision === "bfloat16" ? autocast({}, forward) : forward();
        loss.backward();
        const gradients = [...method.trainable.namedParameters()].map(
          ([name, each]) => [name, each.grad?.toArray() ?? null] as const,
        );
        return { loss: loss.item(), after: getRngState().tolist(), gradients: new Map(gradients) };
      });
      const [without, checkpointed] = seen as [(typeof seen)[0], (typeof seen)[0]];
      expect(checkpointed.loss).toBe(without.loss);
      expect(checkpointed.after).toEqual(without.after);
      for (const [parameter, values] of without.gradients) {
        const others = checkpointed.gradients.get(parameter)!;
        expect(others === null, parameter).toBe(values === null);
        if (!values) continue;
        // A block that is used more than once sums its gradients in another order, in bfloat16 those of casts.
        const largest = Math.max(...values.map(Math.abs));
        const furthest = Math.max(...values.map((value, i) => Math.abs(value - others![i]!)));
        expect(furthest / largest || 0, parameter).toBeLessThan(precision === "bfloat16" ? 2e-2 : 1e-5);
      }
      expect([...without.gradients.values()].some((each) => each?.some((value) => value !== 0))).toBe(true);
    });
  });
}

it("a recipe trains with it, leaks nothing and starts as without", async () => {
  const run = async (name: string, gradientCheckpointing: boolean, handles: number[] = []) => {
    const base = tinyRecipe(ground.data, { train: { maxSteps: 12, gradientCheckpointing } });
    const reporter = { progress: () => void handles.push(memoryStats().handles), line() {} };
    await pretrain(resolveRecipe(base), { out: join(ground.folder, name), reporter });
    return join(ground.folder, name);
  };
  collectGarbage();
  const handles: number[] = [];
  const out = await run("checkpointed", true, handles);
  // The optimiser's state of the last layer comes with its first update, in the second epoch.
  expect(new Set(handles.slice(-4)).size).toBe(1);
  const without = await run("without", false);
  expect(filesOf(out)).toEqual(filesOf(without));
  const [first, second] = [out, without].map((each) => timeless(each)[0]!);
  expect(first).toEqual(second);
  const [last, other] = [out, without].map(
    (each) => readLines(each).findLast(({ kind }) => kind === "step") as { loss?: number },
  );
  expect(last!.loss).toBeCloseTo(other!.loss!, 3);
});

it("a resume keeps it, and another spelling is understood", async () => {
  const out = join(ground.folder, "kept");
  const input = tinyRecipe(ground.data, { train: { maxSteps: 2, gradientCheckpointing: true } });
  await pretrain(resolveRecipe(input), { out });
  const changed = resolveRecipe({ ...input, train: { ...input.train, gradientCheckpointing: undefined } });
  await expect(pretrain(changed, { out, resume: true })).rejects.toThrow(/differs in train\.gradientCheckpointing/);
  const wrong = { ...input, train: { ...input.train, gradCheckpointing: true } };
  expect(() => resolveRecipe(wrong as RecipeInput)).toThrow(ConfigError);
  expect(() => resolveRecipe(wrong as RecipeInput)).toThrow(/gradientCheckpointing/);
});
