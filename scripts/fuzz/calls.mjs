/**
 * The child of fuzz-bridge.mjs: makes calls FIRST to LAST - 1 of a seed in this process. Before each call its number, the counts so
 * far and the operator go to the log file, so that the parent knows what ended the process. It talks to the bridge itself, below the checks of TypeScript.
 *
 *   node calls.mjs SEED FIRST LAST LOG [--show]
 */
import { openSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import { inspect } from "node:util";
import { addonFor } from "../addon-path.mjs";
import { randomOf, Values } from "./values.mjs";

const [seed, first, last] = process.argv.slice(2, 5).map(Number);
const log = openSync(process.argv[5], "w");
const show = process.argv.includes("--show");
const only = process.argv.find((each) => each.startsWith("--operator="))?.slice(11);
const skip = process.argv.find((each) => each.startsWith("--skip="))?.slice(7);

class Tensor {}
class Generator {}
class Failure extends Error {}
const classes = { Tensor, Generator };
const native = createRequire(import.meta.url)(addonFor());
native.setClasses(Tensor, Array(5).fill(Failure));
native.configureAllocator(true, 64 << 20, 512 << 20);
native.setThreads(Number(process.env.FUZZ_THREADS ?? 1));

const operators = native.listOperators(false).sort();
const all = native.listOperators(true).sort();
const wanted = only ? operators.filter((each) => each.startsWith(only)) : operators;
const matching = skip ? wanted.filter((each) => !new RegExp(skip).test(each)) : wanted;
const schemas = new Map();
const schemaOf = (id) => {
  if (!schemas.has(id)) schemas.set(id, native.schemaOf(id));
  return schemas.get(id);
};

/** The bridge's other doors, and how many arguments each takes. */
const doors = Object.entries({
  scopeBegin: 0,
  scopeEnd: 2,
  keep: 1,
  dispose: 1,
  isDisposed: 1,
  isTensor: 1,
  alias: 1,
  shape: 1,
  stride: 1,
  numel: 1,
  dtype: 1,
  device: 1,
  isContiguous: 1,
  dataPointer: 1,
  fromBytes: 3,
  copyBytes: 2,
  attachGenerator: 2,
  resolveOperator: 1,
  refusal: 1,
  schemaOf: 1,
  backward: 5,
  grad: 6,
  gradOf: 1,
  setGrad: 2,
  requiresGrad: 1,
  setRequiresGrad: 2,
  isLeaf: 1,
  autocastEnter: 3,
  autocastExit: 3,
  autocastEnabled: 1,
  generatorSeed: 2,
  generatorGetState: 1,
  generatorSetState: 2,
  setThreads: 1,
  call: 4,
  callNamed: 3,
  setGradEnabled: 1,
});

const counts = { returned: 0, threw: 0 };
const line = Buffer.alloc(96, 0x20);
function note(call, what) {
  line.fill(0x20);
  line.write(`${call} ${counts.returned} ${counts.threw} ${what}`.slice(0, 95), "latin1");
  writeSync(log, line, 0, 96, 0);
}

function callOperator(call, random) {
  // Now and then one that is refused, by its name: the refusal must hold.
  const name = !only && random.chance(0.01) ? random.pick(all) : random.pick(matching);
  const id = native.resolveOperator(name);
  note(call, name);
  if (id < 0) return native.call(id);
  const values = new Values(native, classes, random);
  const { arguments: expected } = schemaOf(id);
  const args = expected.map((each) => values.argument(each));
  if (random.chance(0.03)) args.length = random.below(args.length + 2);
  const named = random.chance(0.15);
  if (show) console.error(name, inspectable(args));
  if (named) {
    const cut = random.below(args.length + 1);
    const rest = Object.fromEntries(expected.slice(cut).map((each, i) => [each.name, args[cut + i]]));
    if (random.chance(0.05)) rest.nonsense = 1;
    return native.callNamed(id, args.slice(0, cut), random.chance(0.02) ? values.hostile() : rest);
  }
  return native.call(id, ...args);
}

function callDoor(call, random) {
  const [name, arity] = random.pick(doors);
  note(call, `(${name})`);
  const values = new Values(native, classes, random);
  const makers = [
    () => values.tensor(),
    () => values.tensor(),
    () => values.hostile(),
    () => values.int(""),
    () => random.chance(0.5),
    () => [values.tensor(), values.tensor()],
    () => [values.tensor()],
    () => values.shape(),
    () => values.one("ScalarType", ""),
    () => values.one("Device", ""),
    () => values.generator(),
    () => new Uint8Array(random.below(64)),
    () => null,
  ];
  const args = Array.from({ length: random.chance(0.05) ? random.below(8) : arity }, () => random.pick(makers)());
  if (name === "setThreads" && args[0] > 2) args[0] = 2;
  if (show) console.error(name, inspectable(args));
  return native[name](...args);
}

/** Reads results out, and runs gradients back through them. */
function use(result, random) {
  const tensors = (Array.isArray(result) ? result.slice(0, 4) : [result]).filter(
    (each) => native.isTensor(each) && !native.isDisposed(each),
  );
  for (const each of tensors) {
    if (native.numel(each) > 1 << 20) continue;
    if (random.chance(0.3)) native.call(native.resolveOperator("clone"), each);
    if (random.chance(0.3) && native.requiresGrad(each)) {
      const ones = native.call(native.resolveOperator("ones_like"), each);
      native.backward([each], [ones], random.chance(0.3), random.chance(0.2), null);
    }
  }
}

function inspectable(args) {
  return (
    inspect(args, { depth: 3, breakLength: 200 }) +
    args
      .flat()
      .filter((each) => each instanceof Tensor && native.isTensor(each) && !native.isDisposed(each))
      .map(
        (each) =>
          `\n  ${native.dtype(each)}[${native.shape(each)}] strides [${native.stride(each)}] grad ${native.requiresGrad(each)}`,
      )
      .join("")
  );
}

for (let call = first; call < last; ++call) {
  const random = randomOf(seed, call);
  const depth = native.scopeBegin();
  try {
    const result = random.chance(only ? 0 : 0.08) ? callDoor(call, random) : callOperator(call, random);
    counts.returned++;
    use(result, random);
  } catch {
    counts.threw++;
  }
  for (let open = native.memoryStats().scopes; open > 0; --open) native.scopeEnd(open);
  if (depth > 1) throw new Error("internal: a scope stayed open");
  native.setGradEnabled(true);
  if (native.autocastEnabled("cpu")) native.autocastExit("cpu", false, "bfloat16");
  if (call % 200 === 0) globalThis.gc?.();
}
globalThis.gc?.();
process.stdout.write(JSON.stringify({ ...counts, handles: native.memoryStats().handles }));
process.exit(0);
