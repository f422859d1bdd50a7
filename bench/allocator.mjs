/**
 * The caching CPU allocator against malloc, on a step like a small ViT's in raw operators: 64 images of 197 tokens, width 384, 4 blocks,
 * forward and backward, float32. Each way runs in a process of its own. Build first: npx tsc -p tsconfig.build.json.
 *
 *   [LIBTORCH=/usr] node bench/allocator.mjs [--steps 5]
 *
 * Seen with --steps 4 on 2 cores of an AMD EPYC with AVX-512, Node 20.20, 24 GB (least of the steps; the machine was not quite idle):
 *
 *                                  libtorch 2.13.0                   libtorch 1.13.0 (Debian)
 *                                  ms    faults a step   RSS MiB     ms    faults a step   RSS MiB
 *   caching, huge pages            3629        10        2094        3632        10        2149
 *   caching, no huge pages         4297        10        2028        4338        12        2084
 *   malloc                         5242   387,340        3132        5322   839,798        2384
 *   malloc, huge pages             5981     2,585        1869        6175     3,705        1889
 *   malloc that never gives back   5311     2,756        2642        4653    11,164        2760
 *
 * So caching with huge pages is the default, but for guests of a hypervisor with shadow page tables (native/allocator.cpp says how they are
 * told). Outside libtorch went 0.1 % of the step.
 */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const WAYS = {
  "caching, huge pages": { TESSERA_HUGE_PAGES: "1" },
  "caching, no huge pages": { TESSERA_NO_HUGE_PAGES: "1" },
  malloc: { TESSERA_ALLOCATOR: "system", TESSERA_NO_HUGE_PAGES: "1" },
  "malloc, huge pages": { TESSERA_ALLOCATOR: "system", TESSERA_HUGE_PAGES: "1" },
  "malloc that never gives back": {
    TESSERA_ALLOCATOR: "system",
    TESSERA_NO_HUGE_PAGES: "1",
    MALLOC_MMAP_THRESHOLD_: "4294967296",
    MALLOC_TRIM_THRESHOLD_: "68719476736",
    MALLOC_TOP_PAD_: "67108864",
  },
};

const steps = Number(process.argv[process.argv.indexOf("--steps") + 1] || 5) || 5;

async function step() {
  const torch = await import("../dist/torch/index.js");
  const { layerNorm, linear, gelu, manualSeed, noGrad, randn, tidy } = torch;
  const [images, tokens, width, heads, blocks] = [64, 197, 384, 6, 4];
  manualSeed(0);
  const weight = (...shape) => noGrad(() => tidy(() => randn(shape).mul(0.02))).requiresGrad_();
  const all = Array.from({ length: blocks }, () => ({
    qkv: weight(3 * width, width),
    out: weight(width, width),
    up: weight(4 * width, width),
    down: weight(width, 4 * width),
  }));
  const input = randn([images, tokens, width]);
  const attention = (x, { qkv, out }) =>
    tidy(() => {
      const parts = linear(layerNorm(x, [width]), qkv)
        .view([images, tokens, 3, heads, width / heads])
        .permute([2, 0, 3, 1, 4]);
      const [q, k, v] = parts.unbind(0);
      const weights = q
        .mul((width / heads) ** -0.5)
        .matmul(k.transpose(-2, -1))
        .softmax(-1);
      return x.add(linear(weights.matmul(v).transpose(1, 2).reshape([images, tokens, width]), out));
    });
  const mlp = (x, { up, down }) => tidy(() => x.add(linear(gelu(linear(layerNorm(x, [width]), up)), down)));
  return () =>
    tidy(() => {
      let x = input;
      for (const block of all) x = mlp(attention(x, block), block);
      x.mul(x).mean().backward();
      for (const block of all) for (const each of Object.values(block)) each.grad = null;
    });
}

if (process.argv.includes("--child")) {
  const run = await step();
  const { timeInside, versionInfo } = await import("../dist/torch/index.js");
  const [times, faults, busy] = [[], [], []];
  for (let i = 0; i < steps + 2; ++i) {
    const [before, start] = [process.resourceUsage(), performance.now()];
    run();
    times.push(performance.now() - start);
    const after = process.resourceUsage();
    faults.push(after.minorPageFault - before.minorPageFault);
    busy.push((after.userCPUTime + after.systemCPUTime - before.userCPUTime - before.systemCPUTime) / 1000);
  }
  const start = performance.now();
  const { milliseconds } = timeInside(run);
  const outside = 1 - milliseconds / (performance.now() - start);
  const sorted = (list) => list.slice(2).sort((a, b) => a - b); // the first two warm up
  const middle = (list) => sorted(list)[Math.floor((list.length - 2) / 2)];
  const result = { least: sorted(times)[0], median: middle(times), busy: middle(busy), outside, faults: middle(faults) };
  process.stdout.write(JSON.stringify({ ...result, rss: process.resourceUsage().maxRSS / 1024, torch: versionInfo().torch }));
} else {
  process.stdout.write(`${"".padEnd(30)}least ms  median ms  CPU ms  page faults a step  peak RSS MiB  outside libtorch\n`);
  for (const [name, env] of Object.entries(WAYS)) {
    const args = [fileURLToPath(import.meta.url), "--child", "--steps", String(steps)];
    const done = spawnSync(process.execPath, args, { encoding: "utf8", env: { ...process.env, ...env } });
    if (done.status !== 0) throw new Error(done.stderr);
    const { least, median, busy, outside, faults, rss, torch } = JSON.parse(done.stdout);
    const cells = [
      least.toFixed(0).padStart(8),
      median.toFixed(0).padStart(11),
      busy.toFixed(0).padStart(8),
      String(faults).padStart(20),
      rss.toFixed(0).padStart(14),
      `${(100 * outside).toFixed(2)} %`.padStart(18),
    ];
    process.stdout.write(`${name.padEnd(30)}${cells.join("")}   libtorch ${torch}\n`);
  }
}
