/**
 * What one small operator costs from JavaScript, and the same in Python on the same libtorch where PYTHON names a Python with torch
 * (its version is printed, compare). Build first: npx tsc -p tsconfig.build.json.
 *
 *   [PYTHON=...] taskset -c 0 node bench/overhead.mjs
 *
 * Nanoseconds an operation, the least and the median of 1,000 repeats of 200. Scopes end every 100 operations, as a layer's would; making
 * and freeing handles is part of the cost, in Python too.
 *
 * Seen on one core of an AMD EPYC with AVX-512, Node 20.20 (least, in ns; the machine was not quite idle):
 *
 *                           libtorch 2.13.0   Python, the same   libtorch 1.13.0
 *   x.add_(1)                          1913               2490              2078
 *   x.add(x), 1 element                1354                987              1551
 *   x.mul(2)                           2393               2637              2779
 *   m.view([16])                       1316               1351              1412
 *   leaf.add(x), recorded              1773               1727              2016
 */
import { spawnSync } from "node:child_process";
import { noGrad, ones, setNumThreads, tidy, versionInfo } from "../dist/torch/index.js";

const [REPEATS, ROUNDS, PER_SCOPE] = [1000, 2, 100];
setNumThreads(1);

const x = ones([1]);
const m = ones([4, 4]);
const leaf = ones([1], { requiresGrad: true });

/** The same in both languages. */
const cases = [
  ["x.shape", () => x.shape, "x.shape"],
  ["x.add_(1)", () => x.add_(1), "x.add_(1)"],
  ["x.add(x), 1 element", () => x.add(x), "x.add(x)"],
  ["x.mul(2)", () => x.mul(2), "x.mul(2)"],
  ["m.view([16])", () => m.view([16]), "m.view([16])"],
  ["m.matmul(m), 4 x 4", () => m.matmul(m), "m.matmul(m)"],
  ["m.softmax(-1)", () => m.softmax(-1), "m.softmax(-1)"],
  ["leaf.add(x), recorded", () => leaf.add(x), "leaf.add(x)"],
];

function measure(fn) {
  const times = [];
  for (let repeat = 0; repeat < REPEATS + 100; ++repeat) {
    const start = process.hrtime.bigint();
    for (let round = 0; round < ROUNDS; ++round) {
      tidy(() => {
        for (let i = 0; i < PER_SCOPE; ++i) fn();
      });
    }
    if (repeat >= 100) times.push(Number(process.hrtime.bigint() - start) / (ROUNDS * PER_SCOPE));
  }
  times.sort((a, b) => a - b);
  return [times[0], times[REPEATS / 2]];
}

function measurePython() {
  if (!process.env.PYTHON) return null;
  const program = `
import json, sys, time, torch
torch.set_num_threads(1)
x, m, leaf = torch.ones(1), torch.ones(4, 4), torch.ones(1, requires_grad=True)
out = {"torch": torch.__version__}
for name, code in json.loads(sys.argv[1]):
    run = eval("lambda r: [None for _ in r if (" + code + ") is None]", {"x": x, "m": m, "leaf": leaf})
    times = []
    with torch.set_grad_enabled("recorded" in name):
        for repeat in range(${REPEATS} + 100):
            start = time.perf_counter_ns()
            run(range(${ROUNDS * PER_SCOPE}))
            times.append((time.perf_counter_ns() - start) / ${ROUNDS * PER_SCOPE})
    times = sorted(times[100:])
    out[name] = [times[0], times[len(times) // 2]]
print(json.dumps(out))`;
  const programs = JSON.stringify(cases.map(([name, , code]) => [name, code]));
  const done = spawnSync(process.env.PYTHON, ["-c", program, programs], { encoding: "utf8" });
  if (done.status !== 0) throw new Error(done.stderr);
  return JSON.parse(done.stdout);
}

const peer = measurePython();
const cells = ([least, median]) => least.toFixed(0).padStart(9) + median.toFixed(0).padStart(9);
process.stdout.write(`libtorch ${versionInfo().torch}${peer ? `, in Python ${peer.torch}` : ""}; ns an operation\n`);
process.stdout.write(`${"".padEnd(24)}    least   median${peer ? "   Python:  least   median" : ""}\n`);
for (const [name, fn] of cases) {
  const times = name.endsWith("recorded") ? measure(fn) : noGrad(() => measure(fn));
  process.stdout.write(`${name.padEnd(24)}${cells(times)}${peer ? `        ${cells(peer[name])}` : ""}\n`);
}
