// The 19 classes that Cityscapes (Cordts et al., 2016) evaluates, with their numbers in *_labelIds.png; in *_labelTrainIds.png they are 0 to 18.
import type { PixelClass } from "./label-map.js";

export const cityscapesClasses: readonly PixelClass[] = [
  [7, "road"],
  [8, "sidewalk"],
  [11, "building"],
  [12, "wall"],
  [13, "fence"],
  [17, "pole"],
  [19, "traffic light"],
  [20, "traffic sign"],
  [21, "vegetation"],
  [22, "terrain"],
  [23, "sky"],
  [24, "person"],
  [25, "rider"],
  [26, "car"],
  [27, "truck"],
  [28, "bus"],
  [31, "train"],
  [32, "motorcycle"],
  [33, "bicycle"],
].map(([value, name]) => ({ value: value as number, name: name as string }));

/** The same by their place. */
export const cityscapesTrainClasses: readonly PixelClass[] = cityscapesClasses.map(({ name }, value) => ({ value, name }));
