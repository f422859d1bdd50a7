/**
 * Finds Fashion-MNIST for the demo and prints its folder: `FASHION_MNIST=DIR`, or Debian's package `dataset-fashion-mnist` (30 MB),
 * which is installed when that is possible without asking anything.
 */
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { aptInstall, isProgram, main, SetupError, say } from "./shared.mjs";

const DEBIAN_FOLDER = "/usr/share/datasets/fashion-mnist";
const PACKAGE = "dataset-fashion-mnist";
const FILES = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];

/** The folder with the four IDX files; throws a SetupError that says how to get them. */
export function getFashionMnist(env = process.env, { debian = DEBIAN_FOLDER, install = aptInstall } = {}) {
  if (env.FASHION_MNIST) {
    const folder = resolve(env.FASHION_MNIST);
    const missing = missingIn(folder);
    if (missing.length === 0) return folder;
    throw new SetupError(
      `FASHION_MNIST is "${folder}", which lacks ${missing.join(", ")} (plain or .gz): name the folder with all four, or unset it.`,
    );
  }
  if (missingIn(debian).length === 0) return debian;
  say(`installing ${PACKAGE} with apt-get (30 MB)`);
  const reason = install([PACKAGE]);
  if (reason === null && missingIn(debian).length === 0) return debian;
  throw new SetupError(
    `there is no Fashion-MNIST (${reason ?? `the package left no files in ${debian}`}): run sudo apt-get install ${PACKAGE}, ` +
      "or download its four files from https://github.com/zalandoresearch/fashion-mnist and set FASHION_MNIST to their folder.",
  );
}

function missingIn(folder) {
  return FILES.filter((name) => !existsSync(join(folder, name)) && !existsSync(join(folder, `${name}.gz`)));
}

if (isProgram(import.meta.url)) await main(() => process.stdout.write(`${getFashionMnist()}\n`));
