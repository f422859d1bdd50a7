// A short run of a recipe from end to end, from files to weights: images/s, and the share of the time that waited for data. --help tells more.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MetricsLog, pretrain, silentReporter } from "../dist/train/index.js";
import { readFlags, wholeNumber } from "./_flags.mjs";
import { jpegFolder } from "./_jpegs.mjs";
import { methodNames, models, setupFor } from "./_setups.mjs";
import { cpuSeconds, machine, short, spread } from "./_stats.mjs";

const help = `Usage: tessera bench train [options]

  --method NAME    ${methodNames.join(", ")} (default dino)
  --model NAME     ${Object.keys(models).join(", ")} (default vit-s16)
  --batch N        images of a step (default 16)
  --dtype D        fp32 or bf16 (default bf16)
  --data SPEC      a data set, such as folder:photos (default: 256 made-up JPEGs of 500 x 375)
  --workers N      worker threads of the data path (default the library's choice)
  --steps N        steps that are measured, after two that are not (default 10)
  --json           one JSON object instead of text
`;

const text = (value) => ({ type: "string", default: value });
const values = readFlags(help, {
  method: text("dino"),
  model: text("vit-s16"),
  batch: text("16"),
  dtype: text("bf16"),
  data: { type: "string" },
  workers: { type: "string" },
  steps: text("10"),
  json: { type: "boolean", default: false },
});
const [batch, steps] = ["batch", "steps"].map((each) => wholeNumber(each, values[each]));
const recipe = setupFor({ method: values.method, model: values.model, batch, dtype: values.dtype });
const train = values.data ?? `folder:${await jpegFolder(256)}`;
const out = mkdtempSync(join(tmpdir(), "tessera-bench-train-"));
/** When each step was done. */
const done = [];
try {
  const measured = {
    ...recipe,
    data: { ...recipe.data, train },
    train: {
      ...recipe.train,
      maxSteps: steps + 2,
      logEvery: 1,
      ...(values.workers !== undefined && { workers: wholeNumber("workers", values.workers, 0) }),
    },
  };
  const progress = () => done.push({ at: performance.now(), cpu: cpuSeconds() });
  await pretrain(measured, { out, reporter: { ...silentReporter, progress } });
  const logged = new MetricsLog(join(out, "metrics.jsonl")).read().filter((line) => line.kind === "step");
  const each = (what) => done.slice(2).map((step, i) => step[what] - done[i + 1][what]);
  const [wall, cpu] = [spread(each("at").map((ms) => ms / 1000)), spread(each("cpu"))];
  const result = {
    method: values.method,
    model: values.model,
    batch,
    dtype: values.dtype,
    data: train,
    ...machine(),
    seconds: { wall, cpu },
    imagesPerSecond: batch / wall.median,
    dataWait: logged.at(-1)?.dataWait ?? 0,
  };
  process.stdout.write(
    values.json
      ? `${JSON.stringify(result)}\n`
      : `${values.method}, ${values.model}, batch ${batch}, ${values.dtype} from ${train}: ${short(result.imagesPerSecond)} images/s, ` +
          `step ${short(wall.median)} s (${short(wall.least)} to ${short(wall.most)}), processor time ${short(cpu.median)} s; ` +
          `${(100 * result.dataWait).toFixed(1)} % of the time waited for data\n`,
  );
} finally {
  rmSync(out, { recursive: true, force: true });
}
