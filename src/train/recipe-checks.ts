// What no section can see by itself: whether the sections fit together.

import { type ConfigIssue, problem, show } from "../config/index.js";
import { parseSpec } from "../data/index.js";
import { needsClassToken } from "../evaluate/index.js";
import { methodNamed, trainsEncoder } from "../methods/index.js";
import { backboneFacts, colourKeys, fillData, fillModel, findCrops, shorterSide, strideOf, valueAt } from "./recipe-defaults.js";
import type { ModelPart, ModelRecipe, Parts } from "./recipe-types.js";

const issue = (path: string, rest: string): ConfigIssue => ({ path, message: `${path} ${rest}` });

/** Problems between sections; `method` is the method's section as it was given. Sections that are missing here have been told of. */
export function crossChecks(parts: Parts, method: unknown): ConfigIssue[] {
  const data = checkData(parts);
  return [
    ...data,
    ...checkModel(parts),
    ...checkMethod(parts),
    ...checkOptimizer(parts),
    ...checkKnn(parts, data.length === 0),
    ...checkColour(parts, method, data.length === 0),
  ];
}

function checkData({ data }: Parts): ConfigIssue[] {
  if (!data) return [];
  const issues: ConfigIssue[] = [];
  for (const key of ["train", "test"] as const) {
    const spec = data[key];
    if (spec === undefined) continue;
    try {
      parseSpec(spec);
    } catch (error) {
      issues.push(issue(`data.${key}`, `is ${show(spec)}: ${(error as Error).message}`));
    }
  }
  if (issues.length > 0) return issues;
  const { channels } = fillData(data);
  for (const key of ["mean", "std"] as const) {
    const given = data[key];
    if (given && given.length !== channels) {
      issues.push(
        problem(
          `data.${key}`,
          given,
          `${channels === 1 ? "one value" : "3 values"}, one a channel (data.channels is ${channels})`,
        ),
      );
    }
  }
  return issues;
}

function checkModel({ data, model, method, train }: Parts): ConfigIssue[] {
  const issues: ConfigIssue[] = [];
  const crops = findCrops(method);
  if (model && !(method && !trainsEncoder(method.name))) {
    const filled = fillModel(model, crops?.values.globalSize);
    const { imageSize } = filled;
    const stride = strideOf(filled);
    const whole = (path: string, size: number | undefined) => {
      if (size !== undefined && size % stride !== 0) {
        const rule = filled.name === "swin" ? "model.patchSize, doubled from stage to stage" : "model.patchSize";
        issues.push(problem(path, size, `a multiple of ${rule}, ${stride}`));
      }
    };
    issues.push(...(filled.name === "swin" ? checkSwin(filled) : checkVit(model as VitPart, filled)));
    if (model.imageSize !== undefined || !crops) {
      for (const side of new Set(typeof imageSize === "number" ? [imageSize] : imageSize)) whole("model.imageSize", side);
    }
    if (data?.evalSize !== undefined) whole("data.evalSize", data.evalSize);
    else if (typeof imageSize !== "number") whole("data.evalSize", shorterSide({ imageSize }));
    if (crops) {
      const at = ["method", ...crops.path].join(".");
      whole(`${at}.globalSize`, crops.values.globalSize);
      if (crops.values.locals !== 0) whole(`${at}.localSize`, crops.values.localSize);
    }
  }
  const norm = batchNormIn(method);
  if (train && norm && train.batchSize < 2) {
    issues.push(problem("train.batchSize", train.batchSize, `at least 2, because method.${norm} is on`));
  }
  return issues;
}

type VitPart = ModelPart & { name: "vit" };

function checkVit(given: VitPart, { width, heads, positions }: ModelRecipe & { name: "vit" }): ConfigIssue[] {
  const issues: ConfigIssue[] = [];
  if (given.size && given.width && given.depth && given.heads) {
    issues.push(issue("model.size", `is ${show(given.size)}, but width, depth and heads are given too; leave out model.size`));
  }
  if (width % heads !== 0) issues.push(problem("model.width", width, `a multiple of model.heads, ${heads}`));
  if (positions === "sin-cos" && width % 4 !== 0) {
    issues.push(problem("model.width", width, "a multiple of 4 for sin-cos positions"));
  }
  return issues;
}

function checkSwin({ embedDim, depths, heads }: ModelRecipe & { name: "swin" }): ConfigIssue[] {
  if (heads.length !== depths.length) {
    return [problem("model.heads", heads, `one number for each of the ${depths.length} stages of model.depths`)];
  }
  return heads.flatMap((count, stage) => {
    const width = embedDim * 2 ** stage;
    return width % count === 0 ? [] : [problem(`model.heads.${stage}`, count, `a divisor of the stage's width, ${width}`)];
  });
}

/** What the method says of the encoder. */
function checkMethod({ model, method, train }: Parts): ConfigIssue[] {
  if (!model || !method || !train) return [];
  const { name, ...options } = method;
  const { backbones = ["vit"], check } = methodNamed(name);
  if (backbones.length === 0) return [];
  if (!backbones.includes(model.name)) {
    const known = backbones.map(show).join(" or ");
    return [problem("model.name", model.name, `${known}, because that is what the method "${name}" works over`)];
  }
  const facts = { ...backboneFacts(fillModel(model, findCrops(method)?.values.globalSize)), batchSize: train.batchSize };
  // A grid of broken patches is told of by itself.
  if (!check || !facts.grid.every(Number.isInteger)) return [];
  return check(options, facts).map(({ path, message }) => issue(`method.${path}`, message));
}

/** The path of an option that turns batch norm on, if any. */
function batchNormIn(options: unknown, path: string[] = []): string | undefined {
  if (typeof options !== "object" || options === null) return undefined;
  for (const [key, value] of Object.entries(options)) {
    if (/batchNorm$/i.test(key) && value === true) return [...path, key].join(".");
    const inside = batchNormIn(value, [...path, key]);
    if (inside) return inside;
  }
  return undefined;
}

const onlyFor = {
  betas: ["adamw"],
  eps: ["adamw"],
  momentum: ["sgd", "lars"],
  nesterov: ["sgd"],
  trustCoefficient: ["lars"],
} as const satisfies Record<string, readonly string[]>;

function checkOptimizer({ optimizer, train }: Parts): ConfigIssue[] {
  if (!optimizer) return [];
  const issues: ConfigIssue[] = [];
  for (const [key, names] of Object.entries(onlyFor) as [keyof typeof onlyFor, readonly string[]][]) {
    if (optimizer[key] !== undefined && !names.includes(optimizer.name)) {
      issues.push(
        issue(
          `optimizer.${key}`,
          `is given, but only ${names.join(" and ")} ha${names.length > 1 ? "ve" : "s"} it; optimizer.name is "${optimizer.name}"`,
        ),
      );
    }
  }
  if (optimizer.nesterov && optimizer.momentum === 0) {
    issues.push(problem("optimizer.momentum", 0, "more than 0, because optimizer.nesterov is on"));
  }
  const { warmupEpochs } = optimizer;
  if (train && warmupEpochs !== undefined && warmupEpochs >= train.epochs && warmupEpochs > 0) {
    issues.push(problem("optimizer.warmupEpochs", warmupEpochs, `less than train.epochs, ${train.epochs}`));
  }
  return issues;
}

function checkKnn({ knn, data, model, method }: Parts, dataIsSound: boolean): ConfigIssue[] {
  if (!knn) return [];
  const issues: ConfigIssue[] = [];
  if (method && !trainsEncoder(method.name)) {
    if (knn.everyEpochs === 0) return [];
    return [problem("knn.everyEpochs", knn.everyEpochs, `0, because the method "${method.name}" trains no encoder to evaluate`)];
  }
  if (knn.everyEpochs > 0 && data && dataIsSound && fillData(data).test === undefined) {
    issues.push(
      issue("knn.everyEpochs", `is ${knn.everyEpochs}, but there is nothing to classify; give data.test, or set it to 0`),
    );
  }
  const largest = Math.max(...knn.k);
  if (knn.bank !== undefined && largest > knn.bank) {
    issues.push(problem("knn.k", knn.k, `at most as many neighbours as knn.bank has images, ${knn.bank}`));
  }
  if (model && (model.name === "swin" || !model.classToken) && knn.readout && needsClassToken(knn.readout)) {
    const why = model.name === "swin" ? "a Swin has no class token" : "model.classToken is false";
    issues.push(problem("knn.readout", knn.readout, `"mean", because ${why}`));
  }
  return issues;
}

function checkColour({ data, method }: Parts, given: unknown, dataIsSound: boolean): ConfigIssue[] {
  const crops = findCrops(method);
  if (!data || !crops || !dataIsSound || fillData(data).channels !== 1) return [];
  return colourKeys.flatMap((keys) => {
    const value = valueAt(given, [...crops.path, ...keys]);
    if (typeof value !== "number" || value === 0) return [];
    const path = ["method", ...crops.path, ...keys].join(".");
    return [problem(path, value, "0, because grey images (data.channels 1) have no colour to change")];
  });
}
