// The nearest neighbours of k-NN evaluation: 10,000 queries in a bank of 50,000 features of 384 numbers. --help tells more.
import { createInterface } from "node:readline";
import { nearestNeighbors } from "../dist/evaluate/index.js";
import { manualSeed, noGrad, randn, tidy } from "../dist/torch/index.js";
import { readFlags, wholeNumber } from "./_flags.mjs";
import { machine, short, spread, timed } from "./_stats.mjs";

const help = `Usage: tessera bench knn [options]

  --bank N      features that are searched (default 50000)
  --queries N   features whose neighbours are wanted (default 10000)
  --width N     numbers of a feature (default 384)
  --k N         neighbours (default 200)
  --repeats N   (default 5)
  --json        one JSON object instead of text
  --serve       measure on demand: each line of standard input is a number of repeats
`;

const text = (value) => ({ type: "string", default: value });
const flag = { type: "boolean", default: false };
const values = readFlags(help, {
  bank: text("50000"),
  queries: text("10000"),
  width: text("384"),
  k: text("200"),
  repeats: text("5"),
  json: flag,
  serve: flag,
});
const [bankSize, querySize, width, k, repeats] = ["bank", "queries", "width", "k", "repeats"].map((each) =>
  wholeNumber(each, values[each]),
);

manualSeed(0);
const [bank, queries] = [randn([bankSize, width]), randn([querySize, width])];
const run = () => noGrad(() => tidy(() => void nearestNeighbors({ bank, queries, k })));
const measure = (count) => {
  const times = Array.from({ length: count }, () => timed(run));
  return { wall: times.map(({ wall }) => wall), cpu: times.map(({ cpu }) => cpu) };
};
const flops = 2 * bankSize * querySize * width;
const rss = () => process.resourceUsage().maxRSS * 1024;

run();
if (values.serve) {
  process.stdout.write(`${JSON.stringify({ flops, memory: { rss: rss(), rssBefore: 0 }, ...machine() })}\n`);
  for await (const line of createInterface({ input: process.stdin })) {
    process.stdout.write(`${JSON.stringify(measure(wholeNumber("repeats", line.trim())))}\n`);
  }
} else {
  const times = measure(repeats);
  const [wall, cpu] = [spread(times.wall), spread(times.cpu)];
  const result = { ...machine(), flops, seconds: { wall, cpu }, queriesPerSecond: querySize / wall.median, rss: rss() };
  process.stdout.write(
    values.json
      ? `${JSON.stringify(result)}\n`
      : `${short(wall.median)} s (${short(wall.least)} to ${short(wall.most)}), processor time ${short(cpu.median)} s, ${short(result.queriesPerSecond)} queries/s, resident ${(result.rss / 2 ** 20).toFixed(0)} MiB\n`,
  );
}
