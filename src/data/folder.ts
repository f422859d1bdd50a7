// Image folders: root/class/*.jpg with the class as the label, or any tree of images without labels.
import { createHash } from "node:crypto";
import { statSync } from "node:fs";
import { readdir, realpath, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { Dataset, DatasetSpec, Split } from "./dataset.js";
import { sharedInts } from "./dataset.js";
import { type DecodeOptions, decodeFile, imageExtensions, loadSharp } from "./decode.js";
import { DataError, messageOf } from "./errors.js";
import type { Pixels } from "./pixels.js";
import { StringTable, type StringTableData } from "./strings.js";

export interface FolderOptions extends DecodeOptions {
  /**
   * "folders": the first folder below the root is the class. "none": no labels. Default "auto": labels when there are at least two such
   * folders with images and no image directly in the root.
   */
  labels?: "auto" | "folders" | "none";
}

interface FolderPayload {
  readonly name: string;
  readonly root: string;
  readonly files: StringTableData;
  readonly labels?: Int32Array<SharedArrayBuffer>;
  readonly classes?: readonly string[];
  readonly decode: DecodeOptions;
}

export class FolderDataset implements Dataset {
  static readonly kind = "folder";
  readonly name: string;
  readonly length: number;
  readonly classes?: readonly string[];
  readonly #payload: FolderPayload;
  readonly #files: StringTable;

  constructor(payload: FolderPayload) {
    this.#payload = payload;
    this.#files = new StringTable(payload.files);
    this.name = payload.name;
    this.length = this.#files.length;
    if (payload.classes) this.classes = payload.classes;
  }

  get spec(): DatasetSpec {
    return { kind: FolderDataset.kind, payload: this.#payload };
  }

  label(index: number): number | undefined {
    return this.#payload.labels?.[index];
  }

  path(index: number): string {
    return join(this.#payload.root, this.#files.at(index));
  }

  get fingerprint(): string {
    const { root, decode } = this.#payload;
    const hash = createHash("sha256").update(JSON.stringify([FolderDataset.kind, resolve(root), decode]));
    for (let i = 0; i < this.length; i++) hash.update(`${this.#files.at(i)}\0`);
    return hash.digest("hex");
  }

  stamp(index: number): number {
    const stat = statSync(this.path(index), { throwIfNoEntry: false });
    return stat ? Math.imul(stat.size, 0x9e3779b1) ^ Math.floor(stat.mtimeMs * 1000) : 0;
  }

  read(index: number): Promise<Pixels> {
    return decodeFile(this.path(index), this.#payload.decode);
  }
}

const extension = new RegExp(`\\.(${imageExtensions.join("|")})$`, "i");

/** Python's and C's order: by code units, not by locale. */
function byCode(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/**
 * All files with an image's name below `root`, relative to it, in order. Links are followed (each real folder once). What has an
 * image's name but is no file, such as a directory without images or a link to nothing, is listed too: reading it says what is wrong.
 */
export async function listImages(root: string): Promise<{ files: string[]; others: number }> {
  const files: string[] = [];
  const visited = new Set<string>();
  let others = 0;
  const walk = async (relative: string): Promise<number> => {
    const folder = join(root, relative);
    const real = await realpath(folder);
    if (visited.has(real)) return 0;
    visited.add(real);
    const entries = await readdir(folder, { withFileTypes: true });
    entries.sort((a, b) => byCode(a.name, b.name));
    let found = 0;
    for (const entry of entries) {
      if (entry.name.startsWith(".")) continue;
      const path = relative === "" ? entry.name : `${relative}/${entry.name}`;
      const linked = entry.isSymbolicLink() ? await stat(join(root, path)).catch(() => undefined) : undefined;
      const isFolder = entry.isDirectory() || (linked?.isDirectory() ?? false);
      const before = found;
      if (isFolder) found += await walk(path);
      if (found > before) continue;
      if (extension.test(entry.name)) {
        files.push(path);
        found++;
      } else if (!isFolder) {
        others++;
      }
    }
    return found;
  };
  await walk("");
  return { files, others };
}

async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() ?? false;
}

/** The subfolders that hold a split, in order of preference. */
const splitFolders: Readonly<Record<Split, readonly string[]>> = { train: ["train"], test: ["test", "val", "validation"] };

async function findSplit(root: string, split: Split): Promise<string | undefined> {
  for (const name of splitFolders[split]) {
    if (await isFolder(join(root, name))) return join(root, name);
  }
  return undefined;
}

/**
 * Opens a folder. With a split, its train/ or test/ (or val/) subfolder where there is one; the root itself stands for "train" where
 * there is not, and "test" is then an error. Class numbers of a test split are those of the train split.
 */
export async function openFolder(folder: string, split: Split | undefined, options: FolderOptions = {}): Promise<FolderDataset> {
  const { labels = "auto", ...decode } = options;
  if (!folder) throw new DataError("folder needs a path: folder:DIR.");
  if (!(await isFolder(folder))) throw new DataError(`folder:${folder} is not a folder.`);
  const part = split && (await findSplit(folder, split));
  if (split === "test" && part === undefined) {
    throw new DataError(`folder:${folder} has no test split: none of ${splitFolders.test.join("/, ")}/ is in it.`);
  }
  const root = part ?? folder;
  try {
    const { files, others } = await listImages(root);
    if (files.length === 0) {
      throw new DataError(
        `folder:${root} has no images: ${others} other files were found, none ending in ${imageExtensions.join(", ")}.`,
      );
    }
    await loadSharp();
    const name = `folder:${folder}${part === undefined ? "" : ` (${split})`}`;
    const base = { name, root, files: StringTable.from(files).data, decode };
    const own = classFolders(files);
    if (labels === "none" || (labels === "auto" && own.length < 2)) return new FolderDataset(base);
    if (own.length === 0) throw new DataError(`folder:${root} has images outside of class folders, so they cannot be labelled.`);
    const train = split === "test" ? await findSplit(folder, "train") : undefined;
    const classes = train === undefined ? own : classFolders((await listImages(train)).files);
    const numbers = new Map(classes.map((name, i) => [name, i]));
    const unknown = own.filter((name) => !numbers.has(name));
    if (unknown.length > 0) {
      throw new DataError(`folder:${root} has classes that ${train} does not have: ${unknown.slice(0, 5).join(", ")}.`);
    }
    const numbered = files.map((file) => numbers.get(file.slice(0, file.indexOf("/")))!);
    return new FolderDataset({ ...base, classes, labels: sharedInts(numbered) });
  } catch (cause) {
    if (cause instanceof DataError) throw cause;
    throw new DataError(`folder:${root} cannot be listed: ${messageOf(cause)}.`, { cause });
  }
}

/** The first-level folders with images in them, by name; none when an image lies directly in the root. */
function classFolders(files: readonly string[]): string[] {
  const names = new Set<string>();
  for (const file of files) {
    const end = file.indexOf("/");
    if (end < 0) return [];
    names.add(file.slice(0, end));
  }
  return [...names].sort(byCode);
}
