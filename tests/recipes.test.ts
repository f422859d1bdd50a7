// Every recipe that comes with the library is sound, and is called after its file.
import { readdirSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { methods } from "../src/methods/index.js";
import { createMethod, loadRecipe, loadStudy } from "../src/train/index.js";

const files = readdirSync("recipes").filter((name) => name.endsWith(".ts"));

describe("recipes", () => {
  test("there is at least one", () => expect(files).toContain("demo-mst.ts"));

  for (const file of files) {
    test(file, async () => {
      const recipe = await loadRecipe(`recipes/${file}`);
      expect(`${recipe.name}.ts`).toBe(file);
      // A demo is found by its method: make demo METHOD=...
      if (file.startsWith("demo-")) expect(`demo-${recipe.method.name}.ts`).toBe(file);
      expect(Object.keys(methods)).toContain(recipe.method.name);
    });
  }
});

describe("studies", () => {
  const shared = "cifar10.ts";
  const studies = readdirSync("recipes/studies").filter((name) => name.endsWith(".ts") && name !== shared);

  test("there is at least one", () => expect(studies).toContain("mst-masks.ts"));

  for (const file of studies) {
    test(file, async () => {
      const study = await loadStudy(`recipes/studies/${file}`);
      expect(`${study.name}.ts`).toBe(file);
      expect(study.seeds.length).toBeGreaterThan(1);
      for (const { recipe } of study.arms) {
        const { trainable, encoder } = createMethod(recipe);
        for (const module of [trainable, encoder]) module?.dispose();
      }
    });
  }
});
