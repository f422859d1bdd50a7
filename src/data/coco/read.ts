// Reads and checks an annotations file in COCO's format for instances. All problems are found before any is told, each with its line and column.
import { readdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { DecodeOptions } from "../decode.js";
import { loadSharp } from "../decode.js";
import { DataError } from "../errors.js";
import { StringTable } from "../strings.js";
import { CocoDataset } from "./dataset.js";
import { JsonFile } from "./json-file.js";
import { noticed } from "./notes.js";
import { tableOf } from "./sections.js";

/** What may be said about decoding; annotations are in pixels of the whole image, so it is never shrunk. */
export type CocoOptions = Pick<DecodeOptions, "maxPixels" | "minSide">;

/**
 * Opens images with COCO annotations.
 *
 * @param jsonPath instances in COCO's format: "images", "annotations" and "categories"
 * @param imageFolder where the images' `file_name`s lie
 * @throws DataError with path, line and column of every problem: what is not JSON, a category or image that does not exist, a box or segmentation
 *   of a wrong form, an id that is there twice. Images that are missing or damaged are bad samples, found when they are read; `notes` of the
 *   dataset counts the missing ones and whatever else is odd
 */
export async function readCoco(jsonPath: string, imageFolder: string, options: CocoOptions = {}): Promise<CocoDataset> {
  if (!(await stat(imageFolder).catch(() => undefined))?.isDirectory()) {
    throw new DataError(`${imageFolder}, the folder of the images of ${jsonPath}, is not a folder.`);
  }
  const table = tableOf(await JsonFile.read(jsonPath, "annotations"));
  const files = new StringTable(table.files);
  const missing = await missingFiles(imageFolder, files);
  if (missing.length === files.length) {
    throw new DataError(
      `None of the ${files.length} images of ${jsonPath} is in ${imageFolder}: there is no ${join(imageFolder, files.at(0))}. ` +
        "Give the folder that their file names are relative to.",
    );
  }
  await loadSharp();
  const notes = noticed(table, missing.length, missing[0] === undefined ? "" : files.at(missing[0]));
  return new CocoDataset({ name: `coco:${jsonPath}`, root: imageFolder, table, notes, decode: { minSide: 1, ...options } });
}

/** Only the annotations, to compare results with: the images are not looked for, and cannot be read. */
export async function readCocoTruth(jsonPath: string): Promise<CocoDataset> {
  const table = tableOf(await JsonFile.read(jsonPath, "annotations"));
  return new CocoDataset({ name: `coco:${jsonPath}`, root: "", table, notes: noticed(table, 0, ""), decode: {} });
}

/** The images whose files are not there, by listing each folder once. */
async function missingFiles(root: string, files: StringTable): Promise<number[]> {
  const listed = new Map<string, Set<string>>();
  const missing: number[] = [];
  for (let i = 0; i < files.length; i++) {
    const name = files.at(i);
    const folder = dirname(name);
    let names = listed.get(folder);
    if (!names) {
      names = new Set(await readdir(join(root, folder)).catch(() => []));
      listed.set(folder, names);
    }
    if (!names.has(name.slice(name.lastIndexOf("/") + 1))) missing.push(i);
  }
  return missing;
}

/** Opens what follows `coco:` in a spec string: ANNOTATIONS.json,IMAGES_DIR. */
export function openCoco(argument: string, options: CocoOptions = {}): Promise<CocoDataset> {
  const end = argument.search(/\.json,/i);
  const comma = end >= 0 ? end + 5 : argument.lastIndexOf(",");
  const [json, folder] = [argument.slice(0, comma), argument.slice(comma + 1)];
  if (comma < 0 || json === "" || folder === "") {
    throw new DataError(`coco:${argument} lacks a path; expected coco:ANNOTATIONS.json,IMAGES_DIR.`);
  }
  return readCoco(json, folder, options);
}
