// The pictures of a run: what its method shows of some fixed images, and the curves of its log.
import { createLoader, toTensors } from "../data/index.js";
import { lineChart, type Picture, type Series, writePictures } from "../draw/index.js";
import type { MetricsLog } from "../fit/index.js";
import { keepingRngState, manualSeed, tidy } from "../torch/index.js";
import type { RunFolder } from "./run-folder.js";
import type { Session } from "./session.js";

/**
 * Draws into the run's images/ folder, under `name` and what each picture shows. The same images and the same random choices every
 * time, so that pictures of different epochs compare; the run's own generator is left as it was.
 */
export async function drawRun(
  session: Pick<Session, "recipe" | "dataset" | "method">,
  folder: RunFolder,
  name: string,
): Promise<string[]> {
  const { recipe, dataset, method } = session;
  const pictures = [...(await methodPictures({ recipe, dataset, method })), ...curves(folder.metrics)];
  return await writePictures(
    folder.images,
    pictures.map((picture) => ({ ...picture, name: `${name}-${picture.name}` })),
  );
}

async function methodPictures({ recipe, dataset, method }: Pick<Session, "recipe" | "dataset" | "method">): Promise<Picture[]> {
  if (!method.picture) return [];
  const loader = createLoader({
    dataset,
    plan: method.views,
    batchSize: Math.min(recipe.pictures.count, dataset.length),
    seed: recipe.train.seed,
    workers: 0,
    prefetch: 1,
  });
  const modes = [method.trainable, method.encoder, method.product?.module].flatMap((module) =>
    Array.from(module?.namedModules() ?? [], ([, each]) => [each, each.training] as const),
  );
  try {
    for await (const raw of loader.epoch(0)) {
      for (const [module] of modes) module.training = false;
      return keepingRngState(() => {
        manualSeed(recipe.train.seed);
        return tidy(() => method.picture!(toTensors(raw, method.views)));
      });
    }
    return [];
  } finally {
    for (const [module, training] of modes) module.training = training;
    await loader.close();
  }
}

const notCurves = new Set([
  "kind",
  "step",
  "epoch",
  "lr",
  "weightDecay",
  "imagesPerSecond",
  "dataWait",
  "seconds",
  "gradientNorm",
  "maskedShare",
  "perplexity",
  "temperature",
]);

/** Loss terms over steps, and k-NN over epochs where it was measured. */
function curves(log: MetricsLog): Picture[] {
  const lines = log.read();
  const steps = lines.filter(({ kind }) => kind === "step");
  const x = steps.map(({ step }) => step);
  const losses: Series[] = Object.keys(steps[0] ?? {})
    .filter((key) => !notCurves.has(key))
    .map((name) => ({ name, x, y: steps.map((line) => Number(line[name])) }));
  const knn = lines.filter(({ kind }) => kind === "knn");
  const scores = knn.map((line) => line.top1 as Record<string, number>);
  const epochs = knn.map(({ epoch }) => epoch + 1);
  const byK: Series[] = Object.keys(scores[0] ?? {}).map((k) => ({
    name: `k = ${k}`,
    x: epochs,
    y: scores.map((each) => each[k]!),
  }));
  return [
    ...(x.length > 1 ? [{ name: "loss", image: lineChart({ series: losses, title: "training", xLabel: "step" }) }] : []),
    ...(knn.length > 1 ? [{ name: "knn", image: lineChart({ series: byK, title: "k-NN top-1 (%)", xLabel: "epoch" }) }] : []),
  ];
}
