// The pictures of a run again, from one of its checkpoints.

import { newestCheckpoint, RunError } from "../fit/index.js";
import { loadCheckpoint } from "./checkpoint.js";
import { drawRun } from "./pictures.js";
import { resolveRecipe } from "./recipe.js";
import { RunFolder } from "./run-folder.js";
import { createSession } from "./session.js";

/** Draws into the run's images/ folder and returns the paths. Default: the newest checkpoint. */
export async function showRun(path: string, { checkpoint }: { checkpoint?: string } = {}): Promise<string[]> {
  const folder = RunFolder.open(path);
  const file = checkpoint ?? newestCheckpoint(folder.checkpoints).newest?.path;
  if (!file) throw new RunError(`${path} has no checkpoint yet to draw from`);
  const session = await createSession(resolveRecipe(folder.read().recipe));
  const { step } = loadCheckpoint(file, { method: session.method });
  return await drawRun(session, folder, `step-${String(step).padStart(6, "0")}`);
}
