// Time and memory of a ViT's forward and backward pass over batch, tokens and model: a table, each row a process of its own.
//
//   npx tessera bench scale [--dtype fp32|bf16] [--repeats 3]
//
// Tokens are 16-pixel patches and the class token. Per token: the linear layers cost the same for each, attention grows with their number.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { VisionTransformer, vitSizes } from "../dist/models/index.js";
import { autocast, manualSeed, randn, tidy } from "../dist/torch/index.js";
import { oneOf, readFlags, wholeNumber } from "./_flags.mjs";
import { machine, short, spread, table } from "./_stats.mjs";

const help = `Usage: tessera bench scale [options]

  --dtype D        fp32 or bf16 (default bf16)
  --repeats N      of each row (default 3)
  --one M,B,S      one row only, as JSON: model, batch, pixels of a side
`;
const values = readFlags(help, {
  dtype: { type: "string", default: "bf16" },
  repeats: { type: "string", default: "3" },
  one: { type: "string" },
});
const half = oneOf("dtype", values.dtype, ["fp32", "bf16"]) === "bf16";
const repeats = wholeNumber("repeats", values.repeats);

/** Model, images and pixels of a side: one of the three changes at a time. */
const rows = [
  ...[4, 16, 64, 128].map((batch) => ["small", batch, 224]),
  ...[112, 224, 336, 448].map((side) => ["small", 16, side]),
  ...["tiny", "base", "large"].map((model) => [model, 16, 224]),
];

function measure([name, batch, side]) {
  manualSeed(0);
  const before = process.memoryUsage.rss();
  const model = new VisionTransformer({ ...vitSizes[name], imageSize: side });
  const images = randn([batch, 3, side, side]);
  const run = () => {
    const start = performance.now();
    tidy(() => {
      const forward = () => model.call(images).tokens.sum();
      (half ? autocast({}, forward) : forward()).backward();
      model.zeroGrad();
    });
    return (performance.now() - start) / 1000;
  };
  run();
  const seconds = spread(Array.from({ length: repeats }, run)).least;
  const resident = process.resourceUsage().maxRSS * 1024 - before;
  return { seconds, resident, tokens: batch * ((side / 16) ** 2 + 1) };
}

if (values.one !== undefined) {
  const [name, batch, side] = values.one.split(",");
  process.stdout.write(JSON.stringify(measure([name, Number(batch), Number(side)])));
} else {
  const { cpu, threads, torch } = machine();
  console.log(`libtorch ${torch}, ${threads} threads, ${cpu}; forward and backward in ${values.dtype}, best of ${repeats}`);
  const lines = [["model, images, tokens of one", "seconds", "memory", "microseconds a token", "memory a token"]];
  for (const [name, batch, side] of rows) {
    const args = [
      fileURLToPath(import.meta.url),
      "--one",
      `${name},${batch},${side}`,
      "--dtype",
      values.dtype,
      "--repeats",
      String(repeats),
    ];
    const { stdout, status } = spawnSync(process.execPath, args, { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
    const title = `${name}, ${batch}, ${(side / 16) ** 2 + 1}`;
    if (status !== 0) {
      lines.push([title, "did not end", "", "", ""]);
      continue;
    }
    const { seconds, resident, tokens } = JSON.parse(stdout);
    const perToken = [`${short((seconds / tokens) * 1e6)}`, `${short(resident / tokens / 1024)} KiB`];
    lines.push([title, short(seconds), `${short(resident / 2 ** 30)} GiB`, ...perToken]);
  }
  console.log(table(lines));
}
