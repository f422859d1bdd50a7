// Study files: what they may hold, what is said of what is wrong, and how an arm's recipe comes about.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ConfigError, type RecipeInput } from "./recipe.js";
import { armRecipe, defineStudy, evaluationData, loadStudy, resolveStudy, type StudyInput } from "./study.js";
import { withChanges } from "./study-arms.js";

const base: RecipeInput = {
  data: { train: "fashion-mnist" },
  model: { patchSize: 7, width: 64, depth: 2 },
  method: { name: "mst", dino: { crops: { globalSize: 28, locals: 0 } } },
};
const two = { none: { set: { "method.mask": "none" } }, random: { set: { method: { mask: "random" } } } };

async function problemsOf(input: unknown, overrides: readonly string[] = []): Promise<string[]> {
  try {
    await resolveStudy(input, { overrides });
  } catch (error) {
    if (error instanceof ConfigError) return error.issues.map(({ message }) => message);
    throw error;
  }
  throw new Error("nothing was wrong");
}

describe("an arm's recipe", () => {
  const recipe = { name: "r", method: { name: "mst", p: 0.5, dino: { momentum: 0.99 } }, knn: { k: [20] }, train: { epochs: 1 } };

  it("is the base with dotted and nested changes, later ones over earlier ones", () => {
    const set = { "method.dino.momentum": 0.9, method: { p: 0.1 }, "knn.k": [5], "optimizer.lr": 1, "train.epochs": undefined };
    expect(withChanges(recipe, set)).toEqual({
      recipe: {
        name: "r",
        method: { name: "mst", p: 0.1, dino: { momentum: 0.9 } },
        knn: { k: [5] },
        train: {},
        optimizer: { lr: 1 },
      },
      issues: [],
    });
    expect(recipe.method.p).toBe(0.5);
  });

  it("has a section replaced whose name changes, but not the recipe", () => {
    const changed = withChanges(recipe, { name: "other", "method.name": "dino", "method.momentum": 0.9 }).recipe;
    expect(changed).toMatchObject({ name: "other", method: { name: "dino", momentum: 0.9 }, knn: { k: [20] } });
    expect(Object.keys((changed as typeof recipe).method)).toEqual(["name", "momentum"]);
  });

  it("refuses what is no path", () => {
    const { issues } = withChanges(recipe, { "": 1, "a..b": 2, "__proto__.x": 3 });
    expect(issues.map(({ message }) => message)).toEqual(
      ["", "a..b", "__proto__.x"].map(
        (path) => `"${path}" is no path into a recipe; expected keys joined by dots, such as "optimizer.lr"`,
      ),
    );
  });
});

describe("a study", () => {
  it("gets its defaults, and every arm a complete recipe", async () => {
    const study = await resolveStudy(defineStudy({ base, arms: two }));
    expect(study).toMatchObject({ name: "study", title: "study", seeds: [0, 1], reference: "none", baselines: [] });
    expect(study.evaluate.knn).toEqual({ k: [20], readouts: ["class", "mean"], temperature: 0.07 });
    expect(study.arms.map(({ name, label, recipe }) => [name, label, recipe.method.mask])).toEqual([
      ["none", "none", "none"],
      ["random", "random", "random"],
    ]);
    const recipe = armRecipe({ name: "masks" }, study.arms[1]!, 7);
    expect(recipe).toMatchObject({ name: "masks-random-7", train: { seed: 7, epochs: 100 }, data: { channels: 1 } });
  });

  it("reads off the mean alone where no arm has a class token", async () => {
    const model = { ...base.model, classToken: false };
    const { evaluate } = await resolveStudy({
      base: { ...base, model },
      arms: { one: { set: { "method.mask": "none" } } },
    });
    expect(evaluate.knn.readouts).toEqual(["mean"]);
  });

  it("takes whole recipes, changes for all arms from outside, and other images to evaluate on", async () => {
    const arms = {
      mst: {},
      dino: { recipe: { ...base, method: { name: "dino" as const, crops: { locals: 0 } } }, label: "DINO" },
    };
    const evaluate = { data: { train: "folder:/some/where", test: "folder:/else/where" } };
    const study = await resolveStudy(
      { base, arms, reference: "dino", evaluate, paper: { table: "x", values: { dino: { linear: 1 } } } },
      { overrides: ["train.epochs=3", "train.batchSize=32"] },
    );
    expect(study.arms.map(({ label, recipe }) => [label, recipe.method.name, recipe.train.epochs])).toEqual([
      ["mst", "mst", 3],
      ["DINO", "dino", 3],
    ]);
    expect(study.reference).toBe("dino");
    const data = evaluationData(study.arms[0]!.recipe, study.evaluate);
    // As the encoder was trained: grey, with the training images' normalisation and size.
    expect(data).toMatchObject({ train: "folder:/some/where", channels: 1, mean: [0.286], evalSize: 28 });
  });

  it("says all that is wrong at once, with the nearest keys", async () => {
    const problems = await problemsOf({
      base,
      arm: {},
      arms: {
        "a b": {},
        baselines: {},
        none: { sets: {}, "method.mask": "none", method: {} },
        typo: { set: { "method.maks": "none", "train.epoch": 3 } },
      },
      seeds: [1, 1],
      evaluate: { knn: { readout: ["class"] }, testImage: 3, attentive: { preset: "mae", head: 3, lr: [0] } },
      reference: "tipo",
      baselines: ["pixel"],
      method: { name: "dino" },
      paper: { table: "t", values: { tpyo: { linear: 1 }, typo: { linear: "x" } } },
    });
    const expected = [
      "arm is unknown; did you mean arms? known: name, title, notes, base, arms, seeds, evaluate, baselines, reference, paper",
      "method is unknown; did you mean base.method? known: name, title",
      "evaluate.knn.readout is unknown; did you mean evaluate.knn.readouts? known: k, readouts, temperature",
      "evaluate.testImage is unknown; did you mean evaluate.testImages? known: data, trainImages, testImages, knn",
      "evaluate.attentive.head is unknown; did you mean evaluate.attentive.heads?",
      'evaluate.attentive.preset is "mae"; expected one of "grid", "cae"',
      "evaluate.attentive.lr.0 is 0; expected more than 0",
      'baselines.0 is "pixel"; expected one of "pixels", "random"; did you mean "pixels"?',
      'paper.values.typo.linear is "x"; expected a number',
      'the arm "a b" cannot be called so, because a folder is; expected letters, digits, and . + - _ inside',
      'the arm "baselines" cannot be called so, because a folder is; expected a name other than "baselines"',
      'arms.none has "method.mask"; put it in arms.none.set',
      "arms.none.sets is unknown; did you mean arms.none.set? known: recipe, set, label",
      "arms.none.method is unknown; did you mean arms.none.set.method? known: recipe, set, label",
      'arm "typo": method.maks is unknown; did you mean method.mask? known: dino, mask',
      'arm "typo": train.epoch is unknown; did you mean train.epochs? known: epochs',
      'reference is "tipo"; expected one of a b, baselines, none, typo; did you mean "typo"?',
      "paper.values.tpyo is unknown; did you mean paper.values.typo? known: a b, baselines, none, typo",
      "seeds is [1,1]; expected each seed once",
    ];
    for (const each of expected)
      expect(
        problems.some((problem) => problem.startsWith(each)),
        `${each}\n${problems.join("\n")}`,
      ).toBe(true);
    expect(problems).toHaveLength(expected.length);
  });

  it("tells what is wrong with the base once, and what is wrong with some arms with their names", async () => {
    const wrong = { ...base, train: { epochs: 0 } };
    expect(await problemsOf({ base: wrong, arms: two })).toEqual(["every arm: train.epochs is 0; expected more than 0"]);
    const arms = { ...two, bad: { set: { "model.depth": -1 } }, worse: { set: { "model.depth": -1 } }, bare: {} };
    expect(await problemsOf({ arms: { bare: {}, own: { recipe: base } } })).toEqual([
      'arm "bare": there is no recipe; give the study a base, or the arm a recipe',
    ]);
    expect(await problemsOf({ base, arms })).toEqual(['arm "bad", "worse": model.depth is -1; expected more than 0']);
    expect(await problemsOf({ base, arms: two }, ["train.epocs=1"])).toEqual([
      expect.stringContaining("every arm: train.epocs is unknown; did you mean train.epochs?"),
    ]);
  });

  it("refuses arms that are the same, a study without arms, and what cannot be evaluated", async () => {
    expect(await problemsOf({ base, arms: { a: {}, b: { set: { "train.epochs": 100 } } } })).toEqual([
      'arm "b" has the same recipe as arm "a"; change it, or leave it out',
    ]);
    expect(await problemsOf({ base, arms: {} })).toEqual(["arms is empty; expected at least one arm"]);
    expect(await problemsOf({ base })).toContainEqual("arms is missing; expected an object");
    expect(await problemsOf([])).toEqual(["expected an object with base and arms"]);
    const folder = { ...base, data: { train: "folder:/photos" } };
    expect(await problemsOf({ base: folder, arms: { one: {} } })).toEqual([
      'arm "one": there are no test images to evaluate on; give evaluate.data with labelled images: { train, test }',
    ]);
    const bare = { ...base, model: { ...base.model, classToken: false } };
    expect(
      await problemsOf({
        base: bare,
        arms: { one: { set: { "method.mask": "none" } } },
        evaluate: { trainImages: 10, knn: { readouts: ["class"] } },
      }),
    ).toEqual([
      "evaluate.knn.k is [20]; expected at most evaluate.trainImages, 10",
      'evaluate.knn.readouts is ["class"]; expected "mean", because no arm has a class token',
    ]);
  });
});

describe("study files", () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "tessera studies-"));
    mkdirSync(join(folder, "recipes"));
    writeFileSync(join(folder, "recipes", "base.json"), JSON.stringify(base));
  });
  afterAll(() => rmSync(folder, { recursive: true }));
  const write = (name: string, text: string) => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };

  it("are TypeScript or JSON, named after the file, with recipes beside them", async () => {
    const json: StudyInput = { base: "recipes/base.json", arms: two };
    const ts = `import { defineStudy } from "tessera";
import base from "./recipes/base.json";
export default defineStudy({ base, arms: { none: { set: { "method.mask": "none" } }, random: { recipe: "recipes/base.json", set: { "method.mask": "random" } } } });`;
    const [one, other] = await Promise.all([
      loadStudy(write("my masks.json", JSON.stringify(json))),
      loadStudy(write("masks.ts", ts)),
    ]);
    expect(one.name).toBe("my-masks");
    expect(other.name).toBe("masks");
    expect(other.arms).toEqual(one.arms);
  });

  it("that cannot be read are told of by file", async () => {
    await expect(loadStudy(join(folder, "none.ts"))).rejects.toThrow(/^there is no study .*none\.ts$/);
    await expect(loadStudy(write("empty.ts", "export const a = 1;"))).rejects.toThrow(
      /empty\.ts has no default export; expected: export default defineStudy\(\{ \.\.\. \}\)$/,
    );
    await expect(loadStudy(write("lost.json", JSON.stringify({ base: "lost/base.ts", arms: two })))).rejects.toThrow(
      /^there is no recipe .*lost\/base\.ts$/,
    );
    await expect(
      loadStudy(write("wrong.json", JSON.stringify({ base, arms: { a: { set: { "train.epochs": 0 } } } }))),
    ).rejects.toThrow(/wrong\.json: arm "a": train\.epochs is 0; expected more than 0$/);
  });
});
