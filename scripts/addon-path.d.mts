/** The libtorch that an addon was built against; scripts/libtorch.mjs says what each field is. */
export interface Libtorch {
  root: string;
  lib: string;
  include: string[];
  version: string;
  source: "LIBTORCH" | "python" | "unpacked" | "system";
  cuda: boolean;
  cxx11Abi: 0 | 1;
}

/** What build-native.mjs writes about a build. */
export interface BuildRecord {
  /** Absolute path of tessera.node. */
  addon: string;
  libtorch: Libtorch;
  /** ISO date. */
  builtAt: string;
  /** Hash of everything the addon was made from; the name of its folder in build/. */
  stamp: string;
  /** Hash of the C++ sources alone. */
  sources: string;
  /** Mark of the libtorch_cpu.so it was built against. */
  fingerprint: string;
}

type Environment = Record<string, string | undefined>;

/** The name under which the build for a choice of libtorch is remembered. */
export function choiceOf(env: Environment): string;

/** The build record for this environment; throws an Error whose message is the sentence to show. */
export function buildFor(env?: Environment, build?: string): BuildRecord;

/** The path of the addon to load in this environment; throws as buildFor does. */
export function addonFor(env?: Environment): string;

/** A mark that changes when the library in this folder is replaced; "" when it is gone. */
export function fingerprint(lib: string): string;
