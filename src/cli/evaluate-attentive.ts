// `tessera evaluate attentive`: how well one learned query tells the classes by all of an encoder's frozen tokens.
import type { Command } from "commander";
import type { AttentivePreset } from "../evaluate/index.js";
import { evaluateProbe, type ProbeFlags, probeCommand, protocolOf, trainingOf } from "./evaluate-probe.js";
import { given, whole } from "./numbers.js";

interface AttentiveFlags extends ProbeFlags {
  preset?: AttentivePreset;
  attentionHeads?: string;
}

const presets: readonly AttentivePreset[] = ["grid", "cae"];

export function registerAttentive(evaluate: Command, setExit: (code: number) => void): void {
  probeCommand(
    evaluate.command("attentive"),
    {
      description: "attentive probe: a learned query reads all frozen tokens (CAE's protocol), a grid of learning rates at once",
      presets,
      lrBatch: 8192,
      pixels: false,
      examples: [
        "--weights runs/mine",
        "--weights runs/mine --preset cae --augment --bf16",
        "--weights vit.safetensors --data folder:DIR --attention-heads 8 --lr 0.4,1.6 --out results/attentive --json",
      ],
    },
    (command) =>
      command.option(
        "--attention-heads <count>",
        "of the query (default: 12, 16 for widths of 1024 and more, fewer where these do not divide the width)",
      ),
  ).action(async (flags: AttentiveFlags) => setExit(await evaluateAttentive(flags)));
}

async function evaluateAttentive(flags: AttentiveFlags): Promise<number> {
  const { preset } = flags;
  const heads = given(flags.attentionHeads, (text) => whole("--attention-heads", text));
  const protocol = { preset, heads, ...protocolOf(flags) };
  return await evaluateProbe(flags, {
    name: "attentive probe",
    protocol,
    pixels: false,
    run: async (images, { weights }) => {
      const { attentiveProbe } = await import("../evaluate/index.js");
      return await attentiveProbe({ ...images, encoder: weights!.encoder, protocol });
    },
    describe: ({ plan, tokens, width }) =>
      `protocol ${plan.preset}: ${tokens} tokens of ${width} numbers, ${plan.heads} heads, ${trainingOf(plan)}`,
  });
}
