/**
 * The import rule: which folder of src/ may import which, and only through the other folder's door (index.js). It keeps the engine
 * free of vision and the methods free of the command line. `node scripts/check-imports.mjs` lists every breach and exits with 1.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize, resolve } from "node:path";
import { importsOf } from "./imports.mjs";
import { isProgram, projectRoot } from "./shared.mjs";

/** What each folder of src/ may import. Files directly in src/ (errors.ts) may be imported by all and know no folder. */
export const ALLOWED = {
  torch: [],
  nn: ["torch"],
  optim: ["torch", "nn"],
  models: ["torch", "nn"],
  data: [],
  draw: ["torch"],
  config: [],
  fit: ["torch", "nn", "optim", "config"],
  methods: ["torch", "nn", "optim", "models", "data", "draw"],
  evaluate: ["torch", "nn", "optim", "models", "methods", "data", "draw", "config", "fit"],
  train: ["torch", "nn", "optim", "models", "methods", "data", "evaluate", "draw", "config", "fit"],
  cli: ["torch", "nn", "optim", "models", "methods", "data", "evaluate", "train", "draw", "config", "fit"],
};

/** Single files that may do more than their folder: where a batch becomes tensors. */
export const EXCEPTIONS = { "src/data/tensors.ts": ["torch"], "src/data/coco/tensors.ts": ["torch"] };

/** The only file outside src/ that src/ may import: where the compiled addon is. */
const FROM_SCRIPTS = "scripts/addon-path.mjs";

/** Folders beside src/ that use the project as its users do: through the doors. */
const USERS = ["tests", "bench", "recipes"];

/**
 * @typedef {object} Breach
 * @property {string} file relative to the root
 * @property {number} line
 * @property {string} what the import as written
 * @property {string} why
 */

/** Checks a tree and returns every breach, by file and line. @returns {Breach[]} */
export function checkImports(root = projectRoot) {
  const files = ["src", ...USERS].flatMap((folder) => sourcesIn(root, folder));
  const breaches = [];
  /** For each file the files of its own folder that it needs when it is loaded. */
  const graph = new Map();
  for (const file of files) {
    const inside = [];
    for (const one of importsOf(readFileSync(join(root, file), "utf8"))) {
      const target = targetOf(root, file, one.from);
      if (target === null) continue;
      const why = breachOf(file, target);
      if (why) breaches.push({ file, line: one.line, what: one.from, why });
      else if (folderOf(file) !== null && folderOf(file) === folderOf(target) && !one.typeOnly && !one.dynamic) {
        inside.push({ target, line: one.line, what: one.from });
      }
    }
    graph.set(file, inside);
  }
  breaches.push(...cyclesIn(graph));
  return breaches.sort((a, b) => a.file.localeCompare(b.file) || a.line - b.line);
}

/** Why this import is not allowed, or null. Paths are relative to the root. */
function breachOf(file, target) {
  const to = folderOf(target);
  if (!file.startsWith("src/")) {
    if (to === null || target === `src/${to}/index.ts`) return null;
    return `import the door instead: src/${to}/index.js`;
  }
  if (!target.startsWith("src/")) {
    if (target === FROM_SCRIPTS || isTest(file)) return null;
    return `src/ imports nothing outside itself but ${FROM_SCRIPTS}`;
  }
  const from = folderOf(file);
  if (from === to && from !== null) return null;
  if (to === null) {
    if (target !== "src/index.ts" || isTest(file)) return null;
    return "src/index.ts is the door for users; inside, import the folder that has it";
  }
  if (target !== `src/${to}/index.ts`) return `import the door instead: src/${to}/index.js`;
  if (isTest(file) || file === "src/index.ts") return null;
  if (from === null) return "a file directly in src/ is shared by all folders, so it may import none of them";
  if (!(from in ALLOWED)) return `src/${from}/ is not in the list of folders: add it to ALLOWED in scripts/check-imports.mjs`;
  if (ALLOWED[from].includes(to) || EXCEPTIONS[file]?.includes(to)) return null;
  const only = Object.keys(EXCEPTIONS).filter((path) => folderOf(path) === from && EXCEPTIONS[path].includes(to));
  const may =
    only.length > 0 ? `only ${only.join(" and ")} may` : `it may import ${ALLOWED[from].join(", ") || "no other folder"}`;
  return `src/${from}/ does not import src/${to}/: ${may}`;
}

/** Every cycle once, told at the import that closes it. Type imports are gone at run time and make none. */
function cyclesIn(graph) {
  const breaches = [];
  const state = new Map();
  const path = [];
  const visit = (file) => {
    state.set(file, "open");
    path.push(file);
    for (const { target, line, what } of graph.get(file) ?? []) {
      if (state.get(target) === "open") {
        const round = [...path.slice(path.indexOf(target)), target].join(" -> ");
        breaches.push({ file, line, what, why: `the files import each other in a circle: ${round}` });
      } else if (!state.has(target)) visit(target);
    }
    path.pop();
    state.set(file, "done");
  };
  for (const file of graph.keys()) if (!state.has(file)) visit(file);
  return breaches;
}

/** The file that an import means, relative to the root with slashes; null for packages and files outside the root. */
function targetOf(root, file, from) {
  if (!from.startsWith(".")) return null;
  const path = normalize(join(dirname(file), from));
  if (path.startsWith("..")) return null;
  const candidates = [path.replace(/\.js$/, ".ts"), path.replace(/\.mjs$/, ".mts"), path];
  return candidates.find((candidate) => existsSync(resolve(root, candidate))) ?? path.replace(/\.js$/, ".ts");
}

/** The folder of src/ that a file is in (`torch` for src/torch/a/b.ts); null for files directly in src/ and outside it. */
function folderOf(file) {
  const [top, folder, ...rest] = file.split("/");
  return top === "src" && rest.length > 0 ? folder : null;
}

function isTest(file) {
  return /\.test(-d)?\.ts$/.test(file);
}

function sourcesIn(root, folder) {
  if (!existsSync(join(root, folder))) return [];
  const entries = readdirSync(join(root, folder), { recursive: true, withFileTypes: true });
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath ?? entry.path, entry.name));
  const relative = paths.map((path) => path.slice(root.length + 1));
  return relative.filter((path) => /\.m?ts$/.test(path) && !path.endsWith(".d.ts")).sort();
}

if (isProgram(import.meta.url)) {
  const breaches = checkImports();
  for (const { file, line, what, why } of breaches) process.stderr.write(`${file}:${line}: imports "${what}": ${why}\n`);
  process.stderr.write(breaches.length === 0 ? "the import rule holds\n" : `${breaches.length} imports break the rule\n`);
  process.exitCode = breaches.length === 0 ? 0 : 1;
}
