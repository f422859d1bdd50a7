// Where the package is, what package.json says, and the set-up scripts, which are plain JavaScript beside the compiled code.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The package's root folder, from src/cli/ and from dist/cli/ alike. */
export const root = fileURLToPath(new URL("../..", import.meta.url));

export const manifest = JSON.parse(readFileSync(`${root}package.json`, "utf8")) as { version: string; description: string };

/** What scripts/libtorch.mjs gives. */
export interface FoundLibtorch {
  root: string;
  lib: string;
  version: string;
  source: "LIBTORCH" | "python" | "unpacked" | "system";
  cuda: boolean;
}

/** scripts/libtorch.mjs: finds a libtorch without loading it. */
export async function libtorchFinder(): Promise<{
  findLibtorch(env?: NodeJS.ProcessEnv): FoundLibtorch | null;
  describe(libtorch: FoundLibtorch): string;
}> {
  return import(new URL("../../scripts/libtorch.mjs", import.meta.url).href);
}
