// `tessera bench`: lists the measurements in bench/ and runs one.
import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import { nearest } from "../nearest.js";
import { EXIT, UsageError } from "./errors.js";
import { print, table } from "./output.js";
import { root } from "./project.js";

const folder = join(root, "bench");

export function registerBench(program: Command, setExit: (code: number) => void): void {
  program
    .command("bench")
    .description("list the measurements, or run one")
    .argument("[name]", "a measurement; without one they are listed")
    .argument("[args...]", "go to the measurement")
    .passThroughOptions()
    .allowUnknownOption()
    .addHelpText("after", () => `\nMeasurements:\n${list() || "  none in this installation"}`)
    .action(async (name: string | undefined, args: string[]) => setExit(await bench(name, args)));
}

/** A script that is no helper of others (those begin with an underscore). */
function scripts(): string[] {
  if (!existsSync(folder)) return [];
  const names = readdirSync(folder).filter((name) => name.endsWith(".mjs") && !name.startsWith("_"));
  return names.map((name) => name.slice(0, -".mjs".length)).sort();
}

/** The first sentence of the comment that a script begins with. */
function summary(name: string): string {
  const text = readFileSync(join(folder, `${name}.mjs`), "utf8").replace(/^#!.*\n/, "");
  const comment = /^\s*(?:\/\/(.*)|\/\*\*?\s*\*?(.*))/.exec(text.replace(/^\/\*\*\s*\n\s*\*/, "//"));
  return (comment?.[1] ?? comment?.[2] ?? "").replace(/\*\/\s*$/, "").trim();
}

function list(): string {
  const names = scripts();
  return names.length === 0
    ? ""
    : table(
        names.map((name) => [name, summary(name)]),
        "  ",
      );
}

async function bench(name: string | undefined, args: readonly string[]): Promise<number> {
  const names = scripts();
  if (name === undefined) {
    print(names.length > 0 ? `tessera bench NAME runs one of:\n${list()}` : `there are no measurements in ${folder}`);
    return EXIT.done;
  }
  if (!names.includes(name)) {
    const near = nearest(name, names);
    throw new UsageError(
      `there is no measurement "${name}"; ${near ? `did you mean "${near}"? ` : ""}known: ${names.join(", ") || "none"}`,
    );
  }
  const child = spawn(process.execPath, [join(folder, `${name}.mjs`), ...args], { stdio: "inherit" });
  return new Promise((settle, refuse) => {
    child.on("error", refuse);
    child.on("close", (code, signal) => settle(signal ? EXIT.interrupted : (code ?? EXIT.failed)));
  });
}
