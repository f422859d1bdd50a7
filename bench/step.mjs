// A method's whole training step: seconds, FLOP/s, memory, and where the time goes. --help tells more.
//
// The step is the one of src/train: bytes to tensors, forward, backward, clipping, the update, moving averages; on random images.
import { createInterface } from "node:readline";
import { createLoader, openDataset } from "../dist/data/index.js";
import { SwinTransformer, VisionTransformer } from "../dist/models/index.js";
import {
  allocatorStats,
  manualSeed,
  noGrad,
  profile,
  profileRegion,
  randn,
  resetPeakMemory,
  Tensor,
  tidy,
  timeInside,
} from "../dist/torch/index.js";
import { createStepper } from "../dist/train/index.js";
import { readFlags, refuse, wholeNumber } from "./_flags.mjs";
import { countedOperators, totalFlops } from "./_flops.mjs";
import { byGroup, regions } from "./_groups.mjs";
import { methodNames, midRun, models, randomBatch, setupFor } from "./_setups.mjs";
import { cpuSeconds, machine, scaled, short, spread, table, timed } from "./_stats.mjs";

const help = `Usage: tessera bench step [options]

  --method NAME    ${methodNames.join(", ")} (default dino)
  --model NAME     ${Object.keys(models).join(", ")} (default vit-s16)
  --batch N        images of a forward pass (default 16)
  --accumulate N   forward passes of a step (default 1)
  --checkpointing  compute blocks again in the backward pass (train.gradientCheckpointing)
  --dtype D        fp32 or bf16 (default bf16)
  --steps N        steps that are measured (default 5)
  --warmup N       steps before them (default 2)
  --no-profile     leave out the time by operator
  --operators N    also list the N operators that take longest
  --data SPEC      train on the images of a data set, through the data path, instead of random bytes; only with --serve
  --workers N      its worker threads (default the library's choice)
  --json           one JSON object instead of text
  --settings       print the recipe that is measured, and end
  --serve          measure on demand: each line of standard input is a number of steps
`;

const values = readFlags(help, {
  method: { type: "string", default: "dino" },
  model: { type: "string", default: "vit-s16" },
  batch: { type: "string", default: "16" },
  accumulate: { type: "string", default: "1" },
  checkpointing: { type: "boolean", default: false },
  dtype: { type: "string", default: "bf16" },
  steps: { type: "string", default: "5" },
  warmup: { type: "string", default: "2" },
  "no-profile": { type: "boolean", default: false },
  operators: { type: "string", default: "0" },
  json: { type: "boolean", default: false },
  settings: { type: "boolean", default: false },
  serve: { type: "boolean", default: false },
  data: { type: "string" },
  workers: { type: "string" },
});

/** Multiplications of two square matrices: operations a second, the best of some. */
function matrixRate(dtype) {
  return noGrad(() =>
    tidy(() => {
      const [a, b] = [randn([2048, 2048]), randn([2048, 2048])].map((x) => (dtype === "bf16" ? x.to("bfloat16") : x));
      const times = Array.from({ length: 8 }, () => timed(() => tidy(() => void a.matmul(b))));
      const [wall, cpu] = ["wall", "cpu"].map(
        (clock) => (2 * 2048 ** 3) / spread(times.slice(2).map((each) => each[clock])).least,
      );
      return { wall, cpu };
    }),
  );
}

/** From now on every operator of an encoder, of the rest of a forward pass, and so on, says so. Unmeasurable while no profile is taken. */
function markRegions({ method, optimizer }) {
  const inRegion = (region, fn) =>
    function (...args) {
      return profileRegion(region, () => fn.apply(this, args));
    };
  for (const { prototype } of [VisionTransformer, SwinTransformer]) {
    prototype.forward = inRegion(regions.encoder, prototype.forward);
    if (prototype.embedPatches) prototype.embedPatches = inRegion(regions.encoder, prototype.embedPatches);
  }
  Tensor.prototype.backward = inRegion(regions.backward, Tensor.prototype.backward);
  method.step = inRegion(regions.heads, method.step);
  method.afterStep = inRegion(regions.after, method.afterStep);
  optimizer.step = inRegion(regions.update, optimizer.step);
}

function setUp() {
  if (values.data !== undefined && !values.serve) refuse("--data is measured on demand: add --serve, or see tessera bench train");
  const [batch, accumulate] = ["batch", "accumulate"].map((each) => wholeNumber(each, values[each]));
  if (values.data !== undefined && accumulate > 1) refuse("--data takes one batch a step: leave out --accumulate");
  const train = { accumulate, ...(values.checkpointing && { gradientCheckpointing: true }) };
  const recipe = setupFor({ method: values.method, model: values.model, batch, dtype: values.dtype, train });
  if (values.settings) {
    process.stdout.write(`${JSON.stringify(recipe)}\n`);
    process.exit(0);
  }
  const rssBefore = process.memoryUsage.rss();
  manualSeed(0);
  const stepper = createStepper(recipe);
  markRegions(stepper);
  const raw = randomBatch(stepper.method.views, batch);
  let { step } = midRun;
  const run = (given = raw) => stepper.step(Array(accumulate).fill(given), { ...midRun, step: step++ });
  for (let i = 0; i < wholeNumber("warmup", values.warmup, 0); i++) run();
  return { batch, accumulate, recipe, stepper, run, rssBefore };
}

const { batch, accumulate, stepper, run, rssBefore } = setUp();

function measure(steps) {
  const times = Array.from({ length: steps }, () => timed(run));
  return { wall: times.map(({ wall }) => wall), cpu: times.map(({ cpu }) => cpu) };
}

/** As measure, with batches from images. As many are prepared at the start as in the middle of a run whose steps take longer than its batches. */
async function withData() {
  const dataset = await openDataset(values.data).catch((error) => refuse(error.message));
  const loader = createLoader({
    dataset,
    plan: stepper.method.views,
    batchSize: batch,
    ...(values.workers !== undefined && { workers: wholeNumber("workers", values.workers, 0) }),
  });
  const stream = (async function* () {
    for (let epoch = 0; ; epoch++) yield* loader.epoch(epoch);
  })();
  // The first batch that is asked for starts the workers.
  (await stream.next()).value.release();
  return async (steps) => {
    const times = { wall: [], cpu: [] };
    for (let i = 0; i < steps; i++) {
      const [start, cpu] = [performance.now(), cpuSeconds()];
      run((await stream.next()).value);
      times.wall.push((performance.now() - start) / 1000);
      times.cpu.push(cpuSeconds() - cpu);
    }
    return times;
  };
}

const parameters = stepper.method.trainable.parameterCount;
const countFlops = () => totalFlops(profile(run, { shapesOf: countedOperators }).operators);

/** Of the last steps: the allocator's peak, and what the process has held at most beside what it held before the model. */
function memory() {
  resetPeakMemory();
  run();
  const { peakBytes, bytesInUse } = allocatorStats();
  return { peak: peakBytes, kept: bytesInUse, rss: process.resourceUsage().maxRSS * 1024, rssBefore };
}

if (values.serve) {
  const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
  say({ parameters, flops: countFlops(), memory: memory(), rate: matrixRate(values.dtype), ...machine() });
  const more = values.data === undefined ? measure : await withData();
  // The rate goes up and down with a shared processor, so that it is taken as often as the steps are.
  for await (const line of createInterface({ input: process.stdin })) {
    say({ ...(await more(wholeNumber("steps", line.trim()))), rate: matrixRate(values.dtype) });
  }
  process.exit(0);
}

const steps = wholeNumber("steps", values.steps);
const times = measure(steps);
const flops = countFlops();
const rate = { fp32: matrixRate("fp32"), bf16: matrixRate("bf16") };
const held = memory();
const [wall, cpu] = [spread(times.wall), spread(times.cpu)];
const result = {
  method: values.method,
  model: values.model,
  batch,
  accumulate,
  checkpointing: values.checkpointing,
  dtype: values.dtype,
  ...machine(),
  parameters,
  flops,
  seconds: { wall, cpu },
  imagesPerSecond: (batch * accumulate) / wall.median,
  flopsPerSecond: flops / wall.least,
  matrixRate: rate,
  // By the clock, and by processor time: the second is what a loaded machine does not change much.
  share: { wall: flops / wall.least / rate[values.dtype].wall, cpu: flops / cpu.least / rate[values.dtype].cpu },
  memory: held,
};

if (!values["no-profile"]) {
  const whole = timed(() => timeInside(run));
  const recorded = timed(() => profile(run));
  const { operators } = recorded.result;
  const sum = (clock) => operators.reduce((total, each) => total + each[clock], 0);
  result.calls = whole.result.calls;
  result.outsideLibtorch = { wall: whole.wall - whole.result.milliseconds / 1000 };
  result.groups = byGroup(operators, "cpu").map((each) => ({ ...each, share: each.ms / 1000 / recorded.cpu }));
  result.betweenOperators = { cpu: Math.max(0, recorded.cpu - sum("cpu") / 1000) };
  result.recorded = { wall: recorded.wall, cpu: recorded.cpu };
  const longest = [...operators].sort((a, b) => b.cpu - a.cpu).slice(0, wholeNumber("operators", values.operators, 0));
  result.operators = longest.map(({ shapes: _, ...rest }) => rest);
}

if (values.json) process.stdout.write(`${JSON.stringify(result)}\n`);
else report(result);

function report(r) {
  const mega = (bytes) => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  const times = ({ least, median, most }) => `${short(median)} s (${short(least)} to ${short(most)})`;
  const lines = [
    `${r.method}, ${r.model}, batch ${r.batch}${r.accumulate > 1 ? ` x ${r.accumulate}` : ""}, ${r.dtype}${r.checkpointing ? ", checkpointing" : ""}: ${r.parameters.toLocaleString("en")} parameters, ${scaled(r.flops)}FLOP a step`,
    `libtorch ${r.torch}, ${r.threads} threads, ${r.cpu}, load ${r.load}`,
    "",
    `step             ${times(r.seconds.wall)}, median of ${steps}; processor time ${times(r.seconds.cpu)}`,
    `images/s         ${short(r.imagesPerSecond)}`,
    `rate             ${scaled(r.flopsPerSecond)}FLOP/s: ${percent(r.share.wall)} of a 2048 x 2048 product's ${scaled(r.matrixRate[r.dtype].wall)}FLOP/s; by processor time ${percent(r.share.cpu)}`,
    `peak memory      ${mega(r.memory.peak)} of tensors; resident ${mega(r.memory.rss)}, ${mega(r.memory.rssBefore)} of it before the model`,
  ];
  if (r.groups) {
    lines.push(
      `outside libtorch ${short(1000 * r.outsideLibtorch.wall)} ms, ${r.calls} calls`,
      "",
      "Processor time by operator:",
    );
    const rows = r.groups.map(({ part, kind, ms, calls, share }) => [
      kind ? `${part}: ${kind}` : part,
      `${ms.toFixed(0)} ms`,
      percent(share),
      `${calls} calls`,
    ]);
    rows.push([
      "JavaScript, bridge, autograd engine",
      `${(1000 * r.betweenOperators.cpu).toFixed(0)} ms`,
      percent(r.betweenOperators.cpu / r.recorded.cpu),
      "",
    ]);
    lines.push(table(rows, "  "));
    if (r.operators.length > 0) {
      lines.push("", "Operators that take longest (region 1: encoder, 2: heads):");
      const named = r.operators.map(({ name, region, backward, cpu, calls }) => [
        `${name}${backward ? ", backward" : ""} (${region})`,
        `${cpu.toFixed(0)} ms`,
        `${calls} calls`,
      ]);
      lines.push(table(named, "  "));
    }
  }
  process.stdout.write(`${lines.join("\n")}\n`);
}
