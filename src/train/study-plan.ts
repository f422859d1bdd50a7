// What a study has to do, by what is in its folder.
import { join } from "node:path";
import type { Dataset } from "../data/index.js";
import { RunError } from "../fit/index.js";
import { nearest } from "../nearest.js";
import type { Recipe } from "./recipe.js";
import { openTraining, stepsOf } from "./session.js";
import { armRecipe, baselineFolder, evaluationData, type Study, type StudyArm } from "./study.js";
import { labelledSplits } from "./study-evaluate.js";
import { type Standing, standingOf } from "./study-folder.js";

/** One training. */
export interface StudyRun {
  arm: StudyArm;
  seed: number;
  recipe: Recipe;
  folder: string;
  /** Steps of the whole run. */
  steps: number;
  standing: Standing;
}

/** One evaluation of what is not trained. */
export interface BaselineRun {
  kind: Study["baselines"][number];
  /** What the report calls it. */
  label: string;
  /** None for pixels, which have no chance in them. */
  seed?: number;
  /** Whose images, and whose encoder before training. */
  recipe: Recipe;
  folder: string;
}

export interface StudyPlan {
  baselines: BaselineRun[];
  /** All arms of a seed, then all of the next: a study that is stopped has whole comparisons. */
  runs: StudyRun[];
}

export interface Selection {
  /** Only these arms. Default all. */
  arms?: readonly string[] | undefined;
  /** Only these seeds. Default all of the study's. */
  seeds?: readonly number[] | undefined;
}

/**
 * Looks at the images and at what was done before.
 *
 * @param out the study's folder
 * @throws RunError where the selection names what is not there, images cannot be used, or an arm has results of another recipe
 */
export async function planStudy(study: Study, out: string, selection: Selection = {}): Promise<StudyPlan> {
  const names = study.arms.map(({ name }) => name);
  const arms = chosen("arm", names, selection.arms).map((name) => study.arms.find((arm) => arm.name === name)!);
  const seeds = chosen("seed", study.seeds, selection.seeds);
  const datasets = new Map<string, Dataset>();
  const steps = new Map<StudyArm, number>();
  for (const arm of arms) {
    const { train, trainSplit, subset } = arm.recipe.data;
    const key = JSON.stringify([train, trainSplit, subset]);
    const dataset = datasets.get(key) ?? (await openTraining(arm.recipe));
    datasets.set(key, dataset);
    steps.set(arm, stepsOf(arm.recipe, dataset).totalSteps);
  }
  for (const data of different(arms, ({ recipe }) => evaluationData(recipe, study.evaluate))) {
    await labelledSplits(evaluationData(data.recipe, study.evaluate));
  }
  const runs = seeds.flatMap((seed) => arms.map((arm) => runOf(study, { out, arm, seed, steps: steps.get(arm)! })));
  refuseOthers(runs);
  return { baselines: baselinesOf(study, out, seeds), runs };
}

/** Where a run of a study is. */
export function runFolderOf(out: string, arm: string, seed: number): string {
  return join(out, arm, `seed-${seed}`);
}

function runOf(study: Study, { out, arm, seed, steps }: { out: string; arm: StudyArm; seed: number; steps: number }): StudyRun {
  const recipe = armRecipe(study, arm, seed);
  const folder = runFolderOf(out, arm.name, seed);
  return { arm, seed, recipe, folder, steps, standing: standingOf(folder, recipe) };
}

/** What is evaluated without training: pixels once for all arms that see the same images, the random encoder once for all that have the same. */
export function baselinesOf(study: Study, out: string, seeds: readonly number[] = study.seeds): BaselineRun[] {
  const dataOf = ({ recipe }: StudyArm) => evaluationData(recipe, study.evaluate);
  const encoderOf = ({ recipe: { model } }: StudyArm) => ({ ...model, dropPath: 0 }); // which is off in evaluations
  return study.baselines.flatMap((kind) => {
    const groups = different(study.arms, (arm) => (kind === "pixels" ? dataOf(arm) : [dataOf(arm), encoderOf(arm)]));
    return groups.flatMap((arm): BaselineRun[] => {
      const name = kind === "pixels" ? "raw pixels" : "random encoder";
      const label = groups.length > 1 ? `${name}, as for ${arm.label}` : name;
      const folder = join(out, baselineFolder, `${kind}-${arm.name}`);
      if (kind === "pixels") return [{ kind, label, recipe: arm.recipe, folder }];
      return seeds.map((seed) => ({
        kind,
        label,
        seed,
        recipe: armRecipe(study, arm, seed),
        folder: join(folder, `seed-${seed}`),
      }));
    });
  });
}

/** The first arm of each group with the same facts. */
function different(arms: readonly StudyArm[], facts: (arm: StudyArm) => unknown): StudyArm[] {
  const groups = new Map<string, StudyArm>();
  for (const arm of arms) {
    const key = JSON.stringify(facts(arm));
    if (!groups.has(key)) groups.set(key, arm);
  }
  return [...groups.values()];
}

function chosen<T extends string | number>(what: string, all: readonly T[], wanted: readonly T[] | undefined): T[] {
  for (const each of wanted ?? []) {
    if (all.includes(each)) continue;
    const near = typeof each === "string" ? nearest(each, all.map(String)) : undefined;
    throw new RunError(
      `the study has no ${what} ${typeof each === "string" ? `"${each}"` : each}${near ? `; did you mean "${near}"?` : ";"} known: ${all.join(", ")}`,
    );
  }
  return all.filter((each) => wanted === undefined || wanted.includes(each));
}

/** Results of another recipe are never overwritten and never mixed in. */
function refuseOthers(runs: readonly StudyRun[]): void {
  const others = runs.filter(({ standing }) => standing.differs.length > 0);
  if (others.length === 0) return;
  const lines = others.map(
    ({ folder, standing }) => `${folder} was made with another recipe; it differs in ${standing.differs.join(", ")}`,
  );
  throw new RunError(
    `${lines.join("\n")}\nRemove ${others.length === 1 ? "the folder" : "these folders"} to run anew, set the study's recipes back, or choose another folder with --out`,
  );
}
