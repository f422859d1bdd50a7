// The data path from JPEG files to a batch of normalised views: images/s by workers, and what each stage costs. --help tells more.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import {
  Augmenter,
  cachedInFile,
  createLoader,
  dinoViews,
  mocoViews,
  openDataset,
  plainViews,
  toTensors,
  viewBytes,
} from "../dist/data/index.js";
import { tidy } from "../dist/torch/index.js";
import { oneOf, readFlags, refuse, wholeNumber } from "./_flags.mjs";
import { jpegFolder } from "./_jpegs.mjs";
import { cpuSeconds, machine, short, table } from "./_stats.mjs";

const help = `Usage: tessera bench data [options]

  --data SPEC      a data set, such as folder:photos (default: 256 made-up JPEGs of 500 x 375, in the temporary folder)
  --views V        dino (2 x 224 + 8 x 96 px), mocov3 (2 x 224) or mae (1 x 224) (default dino)
  --workers LIST   numbers of worker threads, commas between (default 0,1,2)
  --images N       images that are measured for each (default 256)
  --batch N        images of a batch (default 32)
  --cache FOLDER   keep decoded images in a file there (train.cacheFolder), and measure reading them
  --json           one JSON object instead of text
  --serve          measure on demand, with the first of --workers: each line of standard input is a number of repeats of --images
`;

const text = (value) => ({ type: "string", default: value });
const flag = { type: "boolean", default: false };
const values = readFlags(help, {
  data: { type: "string" },
  views: text("dino"),
  workers: text("0,1,2"),
  images: text("256"),
  batch: text("32"),
  cache: { type: "string" },
  json: flag,
  serve: flag,
});

const views = { dino: dinoViews, mocov3: mocoViews, mae: plainViews };
const plan = views[oneOf("views", values.views, Object.keys(views))]();
const workers = values.workers.split(",").map((each) => wholeNumber("workers", each, 0));
const [images, batchSize] = ["images", "batch"].map((each) => wholeNumber(each, values[each]));
const spec = values.data ?? `folder:${await jpegFolder(256)}`;
const plain = await openDataset(spec).catch((error) => refuse(error.message));
const dataset = values.cache === undefined ? plain : cachedInFile(plain, values.cache, 4e9);
if (values.cache !== undefined) for (let i = 0; i < dataset.length; i++) await dataset.read(i);
if (dataset.length < batchSize)
  refuse(`${dataset.name} has ${dataset.length} images; --batch is ${batchSize}, expected no more than that`);

/** Batches without end, as tensors that are freed at once. */
async function* endless(loader) {
  for (let epoch = 0; ; epoch++) {
    for await (const raw of loader.epoch(epoch)) {
      tidy(() => void toTensors(raw, plan));
      yield;
    }
  }
}

/** A loader that is measured in its stride: what it has prepared while nobody asked is taken first. */
function measured(count) {
  const prefetch = 2;
  const loader = createLoader({ dataset, plan, batchSize, workers: count, prefetch, shuffle: true });
  const stream = endless(loader);
  const take = async (n) => {
    for (let i = 0; i < n; i++) await stream.next();
  };
  // Batches come in bursts where workers finish together: a few would be measured as nothing, or as too much.
  const batches = Math.max(4 * Math.max(1, count), Math.round(images / batchSize));
  const share = images / (batches * batchSize);
  return {
    async run() {
      await take(prefetch + 1);
      const [start, cpu] = [performance.now(), cpuSeconds()];
      await take(batches);
      return { wall: (share * (performance.now() - start)) / 1000, cpu: share * (cpuSeconds() - cpu) };
    },
    close: () => loader.close(),
  };
}

/** Milliseconds an image of processor time, stage by stage, one after the other in this thread. */
async function stages() {
  const count = Math.min(images, dataset.length);
  const outs = plan.views.map((view) => new Uint8Array(viewBytes(plan, view)));
  const geometry = {
    ...plan,
    views: plan.views.map((view) => ({ ...view, crops: view.crops.map((steps) => steps.filter(({ op }) => placing.has(op))) })),
  };
  const [whole, crops] = [new Augmenter(plan, 0), new Augmenter(geometry, 0)];
  const cost = async (fn) => {
    const cpu = cpuSeconds();
    for (let i = 0; i < count; i++) await fn(i);
    return (1000 * (cpuSeconds() - cpu)) / count;
  };
  const decoded = [];
  for (let i = 0; i < count; i++) decoded.push(await dataset.read(i));
  const augment = (augmenter) => cost((i) => augmenter.run(decoded[i], 0, i, outs, 0, 1));
  await augment(whole);
  const files = dataset.path(0) && spec.startsWith("folder:");
  const read = files ? await cost((i) => readFileSync(dataset.path(i))) : 0;
  const decode = await cost((i) => dataset.read(i));
  const crop = await augment(crops);
  const all = await augment(whole);
  const raws = Object.fromEntries(
    plan.views.map((view, v) => [view.name, { shape: [view.crops.length, 1, plan.channels, ...view.size], data: outs[v] }]),
  );
  const batch = await cost(() => tidy(() => void toTensors({ views: raws, index: Int32Array.of(0), release: () => {} }, plan)));
  // What is kept is read as pixels, and nothing is decoded.
  const stored = values.cache === undefined ? { read, decode: decode - read } : { read: decode, decode: 0 };
  return { ...stored, crop, photometric: all - crop, batch };
}

const placing = new Set(["randomResizedCrop", "resize", "centerCrop", "horizontalFlip"]);

if (values.serve) {
  const loader = measured(workers[0]);
  await loader.run();
  process.stdout.write(
    `${JSON.stringify({ memory: { rss: process.resourceUsage().maxRSS * 1024, rssBefore: 0 }, ...machine() })}\n`,
  );
  for await (const line of createInterface({ input: process.stdin })) {
    const times = [];
    for (let i = 0; i < wholeNumber("repeats", line.trim()); i++) times.push(await loader.run());
    process.stdout.write(`${JSON.stringify({ wall: times.map((each) => each.wall), cpu: times.map((each) => each.cpu) })}\n`);
  }
  process.exit(0);
}

const result = {
  data: dataset.name,
  views: values.views,
  images,
  batch: batchSize,
  ...machine(),
  workers: [],
  stages: await stages(),
};
for (const count of workers) {
  const loader = measured(count);
  await loader.run();
  const { wall, cpu } = await loader.run();
  await loader.close();
  result.workers.push({ workers: count, imagesPerSecond: images / wall, cpuMilliseconds: (1000 * cpu) / images });
}
if (values.json) process.stdout.write(`${JSON.stringify(result)}\n`);
else {
  const by = result.workers.map((each) => [
    `${each.workers} workers`,
    `${short(each.imagesPerSecond)} images/s`,
    `${short(each.cpuMilliseconds)} ms of processor time an image`,
  ]);
  const cost = Object.entries(result.stages).map(([stage, ms]) => [stage, `${ms.toFixed(2)} ms`]);
  process.stdout.write(
    `${result.views} views of ${result.data}, load ${result.load}\n${table(by, "  ")}\nProcessor time an image, by stage:\n${table(cost, "  ")}\n`,
  );
}
process.exit(0);
