// `tessera evaluate linear`: how well a linear classifier tells the classes by an encoder's frozen features.
import { type Command, Option } from "commander";
import type { LinearPreset } from "../evaluate/index.js";
import { UsageError } from "./errors.js";
import { evaluateProbe, type ProbeFlags, probeCommand, protocolOf, trainingOf } from "./evaluate-probe.js";
import { readoutsNamed } from "./evaluate-subject.js";

interface LinearFlags extends ProbeFlags {
  preset?: LinearPreset;
  readout?: string;
  optimizer?: "sgd" | "lars";
  batchNorm?: boolean;
}

const presets: readonly LinearPreset[] = ["grid", "dino", "moco-v3", "mae", "cae"];

export function registerLinear(evaluate: Command, setExit: (code: number) => void): void {
  probeCommand(
    evaluate.command("linear"),
    {
      description: "linear probe: classifiers on frozen features, a grid of learning rates at once",
      presets,
      lrBatch: 256,
      examples: [
        "--weights runs/mine",
        "--weights runs/mine --preset dino --augment",
        "--weights vit.safetensors --data folder:DIR --readout class+mean --lr 0.1,1,10 --json",
      ],
    },
    (command) =>
      command
        .option("--readout <name>", "class, mean, class+mean, class:N, level:I (default: the protocol's)")
        .addOption(new Option("--optimizer <name>", "of the classifiers").choices(["sgd", "lars"]))
        .option("--batch-norm", "normalise the features over the batch")
        .option("--no-batch-norm", "take the features as they are"),
  ).action(async (flags: LinearFlags) => setExit(await evaluateLinear(flags)));
}

async function evaluateLinear(flags: LinearFlags): Promise<number> {
  const { preset, optimizer, batchNorm } = flags;
  const readouts = flags.readout === undefined ? [] : await readoutsNamed(flags.readout);
  if (flags.pixels && flags.readout !== undefined) throw new UsageError("--readout is of an encoder, but --pixels has none");
  if (readouts.length > 1) throw new UsageError(`--readout is ${flags.readout}; expected one`);
  const protocol = { preset, readout: readouts[0], optimizer, batchNorm, ...protocolOf(flags) };
  return await evaluateProbe(flags, {
    name: "linear probe",
    protocol,
    run: async (images) => await (await import("../evaluate/index.js")).linearProbe({ ...images, protocol }),
    describe: ({ plan, width }) => {
      const norm = plan.batchNorm ? ", batch norm" : "";
      return `protocol ${plan.preset}: read-out ${plan.readout} (${width} numbers${norm}), ${trainingOf(plan)}`;
    },
  });
}
