// Datasets by name: `fashion-mnist`, `cifar10:DIR`, `folder:DIR?split=test&subset=1000`, `coco:ANNOTATIONS.json,DIR`, and kinds that users add.
import { ArrayDataset, type ArrayImages } from "./arrays.js";
import { CachedDataset, type CachePlace, type CacheTable } from "./cache.js";
import { openCifar } from "./cifar.js";
import { CocoDataset } from "./coco/dataset.js";
import { openCoco } from "./coco/read.js";
import type { Dataset, DatasetSpec, Split } from "./dataset.js";
import { DataError, messageOf } from "./errors.js";
import { FolderDataset, type FolderOptions, openFolder } from "./folder.js";
import { openFashionMnist } from "./idx.js";
import { CocoMasksDataset } from "./segmentation/coco-masks.js";
import { MaskFolderDataset, type MaskFolderPayload } from "./segmentation/mask-folder.js";
import { type MaskOptions, openAde20k, openCityscapes, openMasks } from "./segmentation/open.js";
import { SubsetDataset, subset } from "./subset.js";

export interface OpenOptions extends FolderOptions, MaskOptions {
  /** Default "train"; a folder without splits is taken whole when none is asked for. */
  split?: Split;
  /** Take only so many samples, balanced over the classes. */
  subset?: number;
  /** Chooses the subset. Default 0. */
  seed?: number;
}

/** Opens a dataset; `argument` is what follows the colon in the spec string ("" if nothing does). */
export type DatasetOpener = (argument: string, options: OpenOptions) => Dataset | Promise<Dataset>;

/** The options of a kind among those that were given. */
function only<Key extends keyof OpenOptions>(options: OpenOptions, keys: readonly Key[]): Pick<OpenOptions, Key> {
  const given = keys.filter((key) => options[key] !== undefined);
  return Object.fromEntries(given.map((key) => [key, options[key]])) as Pick<OpenOptions, Key>;
}

const decodeKeys = ["maxPixels", "minSide"] as const;
const maskKeys = ["classes", "ignore", "reduceZeroLabel", "missing", ...decodeKeys] as const;

/** COCO's annotations are of one part; its name says which. */
async function cocoPart(argument: string, options: OpenOptions): Promise<CocoDataset> {
  if (options.split !== "test") return openCoco(argument, only(options, decodeKeys));
  throw new DataError(`coco:${argument} has no split "test": name the annotations and images of the part that is meant.`);
}

const openers = new Map<string, DatasetOpener>([
  ["fashion-mnist", (folder, { split = "train" }) => openFashionMnist(folder, split)],
  ["cifar10", (folder, { split = "train" }) => openCifar(10, folder, split)],
  ["cifar100", (folder, { split = "train" }) => openCifar(100, folder, split)],
  [
    "folder",
    (folder, { split, labels, maxPixels, minSide, shrinkTo }) =>
      openFolder(folder, split, {
        ...(labels !== undefined && { labels }),
        ...(maxPixels !== undefined && { maxPixels }),
        ...(minSide !== undefined && { minSide }),
        ...(shrinkTo !== undefined && { shrinkTo }),
      }),
  ],
  ["segmentation", (folder, options) => openMasks(folder, options.split ?? "train", only(options, maskKeys))],
  ["ade20k", (folder, options) => openAde20k(folder, options.split ?? "train", only(options, ["missing", ...decodeKeys]))],
  [
    "cityscapes",
    (folder, options) => openCityscapes(folder, options.split ?? "train", only(options, ["missing", ...decodeKeys])),
  ],
  ["coco", (argument, options) => cocoPart(argument, options)],
  ["coco-masks", async (argument, options) => new CocoMasksDataset(await cocoPart(argument, options))],
]);

/**
 * Adds a kind of dataset, so that `openDataset("kind:argument")` finds it. For worker threads, the dataset's `spec` must name a
 * `module` (a file URL such as `import.meta.url`) that exports `restoreDataset(payload)`, which makes the dataset again from the
 * spec's payload; with `workers: 0` none is needed.
 */
export function registerDataset(kind: string, open: DatasetOpener): void {
  if (!/^[a-z][a-z0-9-]*$/.test(kind)) {
    throw new DataError(`A dataset kind cannot be called "${kind}"; expected lower-case letters, digits and hyphens.`);
  }
  openers.set(kind, open);
}

const optionReaders: Readonly<Record<string, (value: string) => OpenOptions>> = {
  split: (value) => {
    if (value !== "train" && value !== "test") throw new DataError(`split is "${value}"; expected train or test.`);
    return { split: value };
  },
  labels: (value) => {
    if (value !== "auto" && value !== "folders" && value !== "none") {
      throw new DataError(`labels is "${value}"; expected auto, folders or none.`);
    }
    return { labels: value };
  },
  subset: (value) => ({ subset: whole("subset", value) }),
  seed: (value) => ({ seed: whole("seed", value) }),
  maxPixels: (value) => ({ maxPixels: whole("maxPixels", value) }),
  minSide: (value) => ({ minSide: whole("minSide", value) }),
  shrinkTo: (value) => ({ shrinkTo: whole("shrinkTo", value) }),
  classes: (value) => ({ classes: whole("classes", value) }),
  ignore: (value) => ({ ignore: value.split(",").map((each) => whole("ignore", each)) }),
  reduceZeroLabel: (value) => {
    if (value !== "true" && value !== "false") throw new DataError(`reduceZeroLabel is "${value}"; expected true or false.`);
    return { reduceZeroLabel: value === "true" };
  },
  missing: (value) => {
    if (value !== "error" && value !== "skip") throw new DataError(`missing is "${value}"; expected error or skip.`);
    return { missing: value };
  },
};

function whole(name: string, value: string): number {
  if (!/^\d{1,15}$/.test(value)) throw new DataError(`${name} is "${value}"; expected a whole number.`);
  return Number(value);
}

/** Splits `kind:argument?option=value&...`. A question mark that no known option follows belongs to the path. */
export function parseSpec(spec: string): { kind: string; argument: string; options: OpenOptions } {
  const names = Object.keys(optionReaders).join("|");
  const query = new RegExp(`\\?((?:${names})=[^&?]*(?:&(?:${names})=[^&?]*)*)$`).exec(spec);
  const plain = query ? spec.slice(0, query.index) : spec;
  const colon = plain.indexOf(":");
  let options: OpenOptions = {};
  for (const pair of query?.[1]?.split("&") ?? []) {
    const [name = "", value = ""] = pair.split("=");
    options = { ...options, ...optionReaders[name]!(value) };
  }
  return colon < 0
    ? { kind: plain, argument: "", options }
    : { kind: plain.slice(0, colon), argument: plain.slice(colon + 1), options };
}

/** Opens a dataset by its spec string. `options` given here win over those in the string. */
export async function openDataset(spec: string, options: OpenOptions = {}): Promise<Dataset> {
  const parsed = parseSpec(spec);
  const open = openers.get(parsed.kind);
  if (!open) {
    throw new DataError(`There is no dataset kind "${parsed.kind}" (in "${spec}"); known are ${[...openers.keys()].join(", ")}.`);
  }
  const all = { ...parsed.options, ...options };
  const dataset = await open(parsed.argument, all);
  return all.subset === undefined ? dataset : subset(dataset, all.subset, all.seed);
}

/** Makes a dataset again from its spec; what worker threads do. */
export async function restoreDataset(spec: DatasetSpec): Promise<Dataset> {
  const { kind, module, payload } = spec;
  if (module !== undefined) return restoreFrom(module, spec);
  if (kind === ArrayDataset.kind) return new ArrayDataset(payload as ArrayImages);
  if (kind === FolderDataset.kind) return new FolderDataset(payload as ConstructorParameters<typeof FolderDataset>[0]);
  if (kind === CocoDataset.kind) return new CocoDataset(payload as ConstructorParameters<typeof CocoDataset>[0]);
  if (kind === CocoMasksDataset.kind) return CocoMasksDataset.restore(payload);
  if (kind === MaskFolderDataset.kind) return new MaskFolderDataset(payload as MaskFolderPayload);
  if (kind === SubsetDataset.kind) {
    const { whole, indices } = payload as { whole: DatasetSpec; indices: Int32Array<SharedArrayBuffer> };
    return new SubsetDataset(await restoreDataset(whole), indices);
  }
  if (kind === CachedDataset.kind) {
    const { whole, table, place } = payload as { whole: DatasetSpec; table: CacheTable; place: CachePlace };
    return new CachedDataset(await restoreDataset(whole), table, place);
  }
  throw new DataError(
    `A worker thread cannot open a dataset of kind "${kind}": its spec names no module that exports restoreDataset(payload). ` +
      "Add one, or use workers: 0.",
  );
}

async function restoreFrom(module: string, spec: DatasetSpec): Promise<Dataset> {
  let exports: { restoreDataset?: (payload: unknown) => Dataset | Promise<Dataset> };
  try {
    if (/\.[cm]?ts$/.test(module)) {
      const { createJiti } = await import("jiti");
      exports = await createJiti(import.meta.url).import(module);
    } else {
      exports = await import(module);
    }
  } catch (cause) {
    throw new DataError(`The module of dataset kind "${spec.kind}", ${module}, cannot be loaded: ${messageOf(cause)}`, { cause });
  }
  if (typeof exports.restoreDataset !== "function") {
    throw new DataError(`The module of dataset kind "${spec.kind}", ${module}, does not export restoreDataset(payload).`);
  }
  return exports.restoreDataset(spec.payload);
}
