// Labelled images to learn from and to be judged by: what has to fit before hours of work begin.
import type { Dataset } from "../data/index.js";
import { EvaluateError } from "./errors.js";

/** The classes that both splits share. @param who what needs them, as in `k-NN` @throws EvaluateError where they do not fit */
export function sharedClasses(train: Dataset, test: Dataset, who: string): readonly string[] {
  for (const { classes, name } of [train, test]) {
    if (!classes) throw new EvaluateError(`${name} has no labels; ${who} needs them for the training and the test images.`);
  }
  if (train.classes!.join("\n") !== test.classes!.join("\n")) {
    const missing = test.classes!.filter((each) => !train.classes!.includes(each));
    const which = missing.length > 0 ? ` (${list(missing)} only among the test images)` : "";
    throw new EvaluateError(`${train.name} and ${test.name} have different classes${which}; ${who} needs the same in both.`);
  }
  return train.classes!;
}

/** As sharedClasses, and every test image's class can be learnt: each image has a label, each class of the test images a training image. */
export function learnableClasses(train: Dataset, test: Dataset, who: string): readonly string[] {
  const classes = sharedClasses(train, test, who);
  if (classes.length < 2) throw new EvaluateError(`${train.name} has the class ${classes[0]} alone; ${who} needs at least two.`);
  if (train.length < classes.length) {
    throw new EvaluateError(
      `${train.name} has ${train.length} images for ${classes.length} classes; ${who} needs at least one of each class.`,
    );
  }
  const learnt = countsOf(train, who);
  const asked = countsOf(test, who);
  const unknown = classes.filter((_, i) => learnt[i] === 0 && asked[i]! > 0);
  if (unknown.length > 0) {
    const one = unknown.length === 1;
    throw new EvaluateError(
      `The class${one ? "" : "es"} ${list(unknown)} of ${test.name} ${one ? "has" : "have"} no image in ${train.name}; ${who} can only tell classes that it has seen.`,
    );
  }
  return classes;
}

function countsOf(dataset: Dataset, who: string): Int32Array {
  const counts = new Int32Array(dataset.classes!.length);
  for (let i = 0; i < dataset.length; i++) {
    const label = dataset.label(i);
    if (label === undefined)
      throw new EvaluateError(`${dataset.path(i)} in ${dataset.name} has no label; ${who} needs one for every image.`);
    counts[label]!++;
  }
  return counts;
}

const list = (names: readonly string[]) =>
  `${names.slice(0, 5).join(", ")}${names.length > 5 ? ` and ${names.length - 5} more` : ""}`;
