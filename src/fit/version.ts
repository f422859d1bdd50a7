// This library's version, for run folders and exported files.
import { readFileSync } from "node:fs";
import { versionInfo } from "../torch/index.js";

const manifest = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as { version: string };

export const tesseraVersion = manifest.version;

/** Versions that a run was made with. */
export interface Versions {
  tessera: string;
  node: string;
  libtorch: string;
}

export function versions(): Versions {
  return { tessera: tesseraVersion, node: process.versions.node, libtorch: versionInfo().torch };
}
