// `tessera show RUN`: the pictures of a run again, from a checkpoint.
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import { EXIT, UsageError } from "./errors.js";
import { print, printJson } from "./output.js";

interface ShowFlags {
  checkpoint?: string;
  json?: boolean;
}

export function registerShow(program: Command, setExit: (code: number) => void): void {
  program
    .command("show")
    .description("draw the pictures of a run from a checkpoint")
    .argument("<run>", "a run folder")
    .option("-c, --checkpoint <file>", "a checkpoint of the run (default: the newest)")
    .option("--json", "the pictures' paths as JSON on standard output")
    .addHelpText(
      "after",
      `
Prints the path of each picture.

Examples:
  $ tessera show runs/mine
  $ tessera show runs/mine --checkpoint runs/mine/checkpoints/best.safetensors`,
    )
    .action(async (run: string, { checkpoint, json = false }: ShowFlags) => {
      if (!existsSync(join(run, "recipe.json"))) throw new UsageError(`${run} is not the folder of a run: it has no recipe.json`);
      if (checkpoint !== undefined && !existsSync(checkpoint)) throw new UsageError(`there is no checkpoint ${checkpoint}`);
      const { showRun } = await import("../train/index.js");
      const pictures = await showRun(run, checkpoint === undefined ? {} : { checkpoint });
      if (json) printJson({ run, pictures });
      else for (const picture of pictures) print(picture);
      setExit(EXIT.done);
    });
}
