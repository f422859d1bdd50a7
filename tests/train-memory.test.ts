// The loop leaks nothing: a file of its own, because handles of other runs in the process would be counted too.
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterAll, expect, it } from "vitest";
import { memoryStats } from "../src/torch/index.js";
import { pretrain, resolveRecipe } from "../src/train/index.js";
import { tinyRecipe, trainingGround } from "./train-harness.js";

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;
const ground = trainingGround();
afterAll(() => ground.remove());

it("50 steps keep the number of live handles, and no more memory", async () => {
  const handles: number[] = [];
  const bytes: number[] = [];
  const resident: number[] = [];
  const recipe = resolveRecipe(tinyRecipe(ground.data, { train: { epochs: 10, maxSteps: 110, logEvery: 7 } }));
  const look = () => {
    // Handles first: collecting garbage would find those that were lost. Then memory, of which garbage is no part.
    if (handles.length >= 60) collectGarbage();
    const stats = memoryStats();
    handles.push(stats.handles);
    bytes.push(stats.bytes);
    resident.push(process.memoryUsage().rss);
  };
  await pretrain(recipe, { out: join(ground.folder, "run"), reporter: { progress: look, line() {} } });
  expect(handles).toHaveLength(110);
  // The optimiser's state of the last layer comes with its first update, in the second epoch.
  const settled = 14;
  expect([...new Set(handles.slice(settled))]).toHaveLength(1);
  expect([...new Set(bytes.slice(settled))]).toHaveLength(1);
  // A step's batch is 0.2 MB and its activations several: one that is kept at each step would show.
  expect(resident.at(-1)! - Math.min(...resident.slice(60))).toBeLessThan(3e6);
});
