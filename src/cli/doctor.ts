// `tessera doctor`: what this installation stands on, what is missing and how to get it.
import type { Command } from "commander";
import { type Check, runChecks } from "./doctor-checks.js";
import { EXIT } from "./errors.js";
import { print, printJson } from "./output.js";
import { manifest } from "./project.js";

export function registerDoctor(program: Command, setExit: (code: number) => void): void {
  program
    .command("doctor")
    .description("say what was found on this machine, what is missing and how to get it")
    .option("--json", "the result as JSON on standard output")
    .addHelpText(
      "after",
      `
Lines begin with ok, note (works, but could be better, or is needed only for some things) or MISSING. Exit code 1 when something
needed is missing.

Examples:
  $ tessera doctor
  $ LIBTORCH=/opt/libtorch tessera doctor
  $ tessera doctor --json`,
    )
    .action(async ({ json = false }: { json?: boolean }) => {
      const checks = await runChecks();
      const missing = checks.filter(({ status }) => status === "missing");
      if (json) printJson({ tessera: manifest.version, ok: missing.length === 0, checks });
      else print(report(checks));
      setExit(missing.length === 0 ? EXIT.done : EXIT.failed);
    });
}

const marks: Readonly<Record<Check["status"], string>> = { ok: "ok", note: "note", missing: "MISSING" };

/** One line a check, what to do below it, and the verdict. */
export function report(checks: readonly Check[]): string {
  const width = Math.max(...checks.map(({ name }) => name.length));
  const lines = checks.flatMap(({ name, status, found, advice }) => [
    `${marks[status].padEnd(7)}  ${name.padEnd(width)}  ${found}`,
    ...(advice && status !== "ok" ? [`${" ".repeat(9)}${" ".repeat(width)}  -> ${advice}`] : []),
  ]);
  const missing = checks.filter(({ status }) => status === "missing").map(({ name }) => name);
  return [
    `tessera ${manifest.version}`,
    ...lines,
    missing.length === 0 ? "everything needed is there" : `missing: ${missing.join(", ")}`,
  ].join("\n");
}
