// `tessera evaluate ...`: what an encoder is worth, by one of the usual evaluations.
import type { Command } from "commander";
import { registerAttentive } from "./evaluate-attentive.js";
import { registerCoco } from "./evaluate-coco.js";
import { registerDetect } from "./evaluate-detect.js";
import { registerFinetune } from "./evaluate-finetune.js";
import { registerKnn } from "./evaluate-knn.js";
import { registerLinear } from "./evaluate-linear.js";
import { registerSegment } from "./evaluate-segment.js";

export function registerEvaluate(program: Command, setExit: (code: number) => void): void {
  const evaluate = program.command("evaluate").description("measure an encoder");
  for (const register of [
    registerKnn,
    registerLinear,
    registerAttentive,
    registerFinetune,
    registerSegment,
    registerDetect,
    registerCoco,
  ])
    register(evaluate, setExit);
}
