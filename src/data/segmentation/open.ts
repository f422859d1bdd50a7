// Where images and their masks lie: `segmentation:DIR`, `ade20k:DIR`, `cityscapes:DIR`.
import { existsSync, readFileSync, statSync } from "node:fs";
import { join, sep } from "node:path";
import type { Split } from "../dataset.js";
import { type DecodeOptions, imageExtensions, loadSharp } from "../decode.js";
import { DataError } from "../errors.js";
import { listImages } from "../folder.js";
import { StringTable } from "../strings.js";
import { ade20kClasses } from "./ade20k.js";
import { cityscapesClasses, cityscapesTrainClasses } from "./cityscapes.js";
import { classesOfText, type LabelMap, labelMap, type PixelClass } from "./label-map.js";
import { MaskFolderDataset } from "./mask-folder.js";

export interface MaskOptions extends DecodeOptions {
  /** Classes 0 to so many less one, where the folder has no classes.txt. */
  classes?: number;
  /** Numbers in masks that stand for no class, beside 255. */
  ignore?: readonly number[];
  /** 0 stands for no class and n for class n - 1, as in ADE20K. Default false, of ade20k true. */
  reduceZeroLabel?: boolean;
  /** What becomes of an image without a mask: an error (default), or it is left out. */
  missing?: "error" | "skip";
}

const isFolder = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;

/** The folders that hold a split, in order of preference. */
const splitNames: Readonly<Record<Split, readonly string[]>> = {
  train: ["train", "training", "train2017"],
  test: ["val", "validation", "val2017", "test"],
};

interface Pair {
  readonly imageRoot: string;
  readonly maskRoot: string;
  /** The split's folder, or null where the whole folder is taken. */
  readonly part: string | null;
}

/** The folders of images and masks. @param images and @param masks names below the root, in order of preference ("" is the root itself) */
function pairOf(what: string, root: string, split: Split, images: readonly string[], masks: readonly string[]): Pair {
  if (!root) throw new DataError(`${what} needs a path: ${what}:DIR.`);
  if (!isFolder(root)) throw new DataError(`${what}:${root} is not a folder.`);
  const maskFolders = masks.filter((name) => isFolder(join(root, name)));
  const imageFolder = images.find((name) => isFolder(join(root, name)));
  if (maskFolders.length === 0) throw new DataError(`${what}:${root} has no masks: none of ${masks.join("/, ")}/ is in it.`);
  if (imageFolder === undefined) throw new DataError(`${what}:${root} has no images: none of ${images.join("/, ")}/ is in it.`);
  const imageRoot = join(root, imageFolder);
  // COCO's annotations/ has no masks; the folder that has the split is meant.
  for (const maskFolder of maskFolders) {
    const maskRoot = join(root, maskFolder);
    const part = splitNames[split].find((name) => isFolder(join(imageRoot, name)) && isFolder(join(maskRoot, name)));
    if (part !== undefined) return { imageRoot: join(imageRoot, part), maskRoot: join(maskRoot, part), part };
  }
  const [maskFolder] = maskFolders as [string];
  const maskRoot = join(root, maskFolder);
  // Without splits the images are training images.
  const some = Object.values(splitNames).some((names) => names.some((name) => isFolder(join(maskRoot, name))));
  if (split === "test" || some || imageFolder === "") {
    const expected = splitNames[split].map((name) => `${join(imageFolder, name)}/ and ${join(maskFolder, name)}/`);
    throw new DataError(`${what}:${root} has no ${split} split: expected ${expected.join(", or ")} in it.`);
  }
  return { imageRoot, maskRoot, part: null };
}

interface Layout {
  readonly name: string;
  readonly pair: Pair;
  readonly map: LabelMap;
  /** The mask's path below its root, of an image's; undefined for files that are no images of the data. */
  maskOf(image: string): string | undefined;
}

async function open({ name, pair, map, maskOf }: Layout, options: MaskOptions): Promise<MaskFolderDataset> {
  const { missing = "error", classes: _, ignore: __, reduceZeroLabel: ___, ...decode } = options;
  const { imageRoot, maskRoot } = pair;
  const { files } = await listImages(imageRoot);
  const images: string[] = [];
  const masks: string[] = [];
  const without: string[] = [];
  for (const image of files) {
    const mask = maskOf(image);
    if (mask === undefined) continue;
    if (existsSync(join(maskRoot, mask))) {
      images.push(image);
      masks.push(mask);
    } else without.push(image);
  }
  if (images.length + without.length === 0) {
    throw new DataError(`${name} has no images: no file in ${imageRoot} ends in ${imageExtensions.join(", ")}.`);
  }
  if (without.length > 0 && (missing === "error" || images.length === 0)) {
    const [first] = without;
    const others = without.length > 1 ? `, and so have ${without.length - 1} other images` : "";
    throw new DataError(
      `${join(imageRoot, first!)} has no mask${others}: there is no ${join(maskRoot, maskOf(first!)!)}. ` +
        "Add it, or leave such images out with ?missing=skip after the folder.",
    );
  }
  await loadSharp();
  return new MaskFolderDataset({
    name,
    imageRoot,
    maskRoot,
    images: StringTable.from(images).data,
    masks: StringTable.from(masks).data,
    map,
    decode,
  });
}

const withoutExtension = (path: string) => path.replace(/\.[^./]*$/, "");

/**
 * A folder with `images/` and `masks/`, each with the splits as subfolders or without any; a mask has its image's name and ends in .png. Classes
 * are in `classes.txt` beside them (a name a line; or a number and a name), or 0 to `classes` - 1.
 */
export async function openMasks(root: string, split: Split, options: MaskOptions = {}): Promise<MaskFolderDataset> {
  const what = "segmentation";
  const pair = pairOf(what, root, split, ["images", ""], ["masks", "annotations", "semantic"]);
  const classes = classesIn(root, options);
  const ignore = [...(options.ignore ?? []), ...(options.reduceZeroLabel ? [0] : [])];
  const name = `${what}:${root}${pair.part === null ? "" : ` (${split})`}`;
  const maskOf = (image: string) => `${withoutExtension(image)}.png`;
  return open({ name, pair, map: labelMap(classes, { ignore }), maskOf }, options);
}

function classesIn(root: string, { classes, reduceZeroLabel = false }: MaskOptions): PixelClass[] {
  const path = join(root, "classes.txt");
  const first = reduceZeroLabel ? 1 : 0;
  if (classes !== undefined) return Array.from({ length: classes }, (_, i) => ({ value: first + i, name: `class ${i}` }));
  if (!existsSync(path)) {
    throw new DataError(
      `segmentation:${root} does not say its classes: add ${path} with a name a line (or a number and a name), or give their number with ?classes=N.`,
    );
  }
  return classesOfText(readFileSync(path, "utf8"), path, first);
}

/** ADE20K's scene parsing benchmark: images/ and annotations/, each with training/ and validation/. */
export async function openAde20k(root: string, split: Split, options: MaskOptions = {}): Promise<MaskFolderDataset> {
  const pair = pairOf("ade20k", root, split, ["images"], ["annotations"]);
  const classes = ade20kClasses.map((name, i) => ({ value: i + 1, name }));
  const map = labelMap(classes, { ignore: [0, ...(options.ignore ?? [])] });
  const maskOf = (image: string) => `${withoutExtension(image)}.png`;
  return open({ name: `ade20k:${root} (${split})`, pair, map, maskOf }, options);
}

/** Cityscapes: leftImg8bit/ and gtFine/, each with train/ and val/, a folder a city. *_labelTrainIds.png are taken where they have been made. */
export async function openCityscapes(root: string, split: Split, options: MaskOptions = {}): Promise<MaskFolderDataset> {
  const pair = pairOf("cityscapes", root, split, ["leftImg8bit"], ["gtFine"]);
  const ending = /_leftImg8bit\.[^.]+$/;
  const { files } = await listImages(pair.imageRoot);
  const first = files.find((file) => ending.test(file));
  if (first === undefined) {
    throw new DataError(`cityscapes:${root} has no images: no file in ${pair.imageRoot}${sep} ends in _leftImg8bit.png.`);
  }
  const trainIds = existsSync(join(pair.maskRoot, first.replace(ending, "_gtFine_labelTrainIds.png")));
  const { ignore = [] } = options;
  const map = trainIds
    ? labelMap(cityscapesTrainClasses, { ignore })
    : labelMap(cityscapesClasses, { ignore, othersIgnored: true });
  const maskOf = (image: string) =>
    ending.test(image) ? image.replace(ending, `_gtFine_${trainIds ? "labelTrainIds" : "labelIds"}.png`) : undefined;
  return open({ name: `cityscapes:${root} (${split})`, pair, map, maskOf }, options);
}
