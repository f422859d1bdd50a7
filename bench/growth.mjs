// Whether a long training grows: the median time of a step, resident memory and live tensors in each eighth of many steps.
//
//   npx tessera bench growth [--method dino] [--steps 2000] [--batch 4]
//
// A small ViT at 32 px, so that thousands of steps take minutes.
import { manualSeed, memoryStats } from "../dist/torch/index.js";
import { createStepper } from "../dist/train/index.js";
import { oneOf, readFlags, wholeNumber } from "./_flags.mjs";
import { methodNames, midRun, randomBatch, setupFor } from "./_setups.mjs";
import { machine, spread, table, timed } from "./_stats.mjs";

const help = `Usage: tessera bench growth [options]

  --method NAME    ${methodNames.join(", ")} (default dino)
  --steps N        steps in all (default 2000)
  --batch N        images of a step (default 4)
`;
const values = readFlags(help, {
  method: { type: "string", default: "dino" },
  steps: { type: "string", default: "2000" },
  batch: { type: "string", default: "4" },
});
const method = oneOf("method", values.method, methodNames);
const [steps, batch] = ["steps", "batch"].map((each) => wholeNumber(each, values[each]));

manualSeed(0);
const stepper = createStepper(setupFor({ method, model: "vit-small32", batch, dtype: "bf16" }));
const raw = randomBatch(stepper.method.views, batch);
let { step } = midRun;
const run = () => stepper.step([raw], { ...midRun, step: step++ });
for (let i = 0; i < 10; i++) run();

const { cpu, threads, torch } = machine();
console.log(`libtorch ${torch}, ${threads} threads, ${cpu}; ${method}, vit-small32, batch ${batch}, bf16`);
const parts = 8;
const lines = [["steps", "median of a step", "resident", "live tensors"]];
for (let part = 0; part < parts; part++) {
  const count = Math.floor((steps * (part + 1)) / parts) - Math.floor((steps * part) / parts);
  const times = Array.from({ length: count }, () => timed(run).wall);
  lines.push([
    `to ${Math.floor((steps * (part + 1)) / parts)}`,
    `${(1000 * spread(times).median).toFixed(1)} ms`,
    `${(process.memoryUsage.rss() / 2 ** 20).toFixed(0)} MiB`,
    String(memoryStats().handles),
  ]);
}
console.log(table(lines));
