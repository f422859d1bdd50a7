// How long OpenMP's threads should spin for more work before they sleep, on a quiet machine and beside a busy neighbour.
//
//   node bench/threads.mjs
//
// Small parallel regions, as a small ViT's step has them: products of [2176, 96] with [96, 384], a few hundred in a row.
import { spawn, spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

if (process.argv[2] === "child") {
  const { noGrad, randn, tidy } = await import("../dist/torch/index.js");
  const a = randn([2176, 96]);
  const b = randn([96, 384]);
  const round = () => noGrad(() => tidy(() => Array.from({ length: 300 }, () => a.matmul(b).relu().dispose())));
  round();
  const times = Array.from({ length: 7 }, () => {
    const start = performance.now();
    round();
    return performance.now() - start;
  });
  console.log(times.sort((x, y) => x - y)[3].toFixed(0));
  process.exit(0);
}

const self = fileURLToPath(import.meta.url);
const run = (env) =>
  spawnSync(process.execPath, [self, "child"], { env: { ...process.env, ...env }, encoding: "utf8" }).stdout.trim();
for (const busy of [false, true]) {
  const neighbour = busy ? spawn(process.execPath, ["-e", "for (;;);"]) : undefined;
  console.log(busy ? "beside a process that keeps one core busy:" : "as the machine is:");
  for (const [name, env] of [
    ["sleep at once", { GOMP_SPINCOUNT: "0" }],
    ["spin 5,000 times (the library's choice)", { GOMP_SPINCOUNT: "5000" }],
    ["spin 300,000 times (OpenMP's default)", { GOMP_SPINCOUNT: "300000" }],
    ["one thread", { TESSERA_THREADS: "1" }],
  ]) {
    console.log(`  ${name.padEnd(40)} ${run(env)} ms`);
  }
  neighbour?.kill();
}
