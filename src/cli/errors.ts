// How errors end a command: one sentence and an exit code.
import { TesseraError } from "../errors.js";

export const EXIT = { done: 0, failed: 1, usage: 2, interrupted: 130 } as const;

/** The command line asks for something that cannot be. Exit code 2. */
export class UsageError extends TesseraError {}

/** Something needed is not there, or a program that was started failed. Exit code 1. */
export class CommandError extends TesseraError {}

/** Errors of what was typed or of a recipe; the classes are compared by name because their modules may load the engine. */
const usage = new Set(["UsageError", "ConfigError", "RecipeFileError", "UnknownMethodError"]);

/** Writes an error to standard error and returns the exit code. */
export function tellError(error: unknown, write: (text: string) => void = (text) => process.stderr.write(text)): number {
  const { text, code } = describeError(error, process.env.TESSERA_DEBUG === "1");
  write(`${text}\n`);
  return code;
}

/** What to say about an error: its sentence for those thrown on purpose and the system's; all others are our own bugs. */
export function describeError(error: unknown, debug = false): { text: string; code: number } {
  const stack = debug && error instanceof Error ? `\n${stackOf(error)}` : "";
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof TesseraError) {
    const own = message.startsWith("internal:") ? hint(debug) : "";
    return { text: `tessera: ${message}${own}${stack}`, code: usage.has(error.name) ? EXIT.usage : EXIT.failed };
  }
  if (isSystemError(error)) return { text: `tessera: ${message}${stack}`, code: EXIT.failed };
  const plain = message.replace(/^internal: /, "") || "an error without a message";
  const kind = error instanceof Error && error.name !== "Error" ? `${error.name}: ` : "";
  return { text: `tessera: internal: ${kind}${plain}${hint(debug)}${stack}`, code: EXIT.failed };
}

const hint = (debug: boolean) => (debug ? "" : "\n(this is a bug in tessera; TESSERA_DEBUG=1 shows where it happened)");

/** No space left, no permission: what the operating system refused. */
function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && "syscall" in error && "code" in error;
}

function stackOf(error: Error): string {
  const own = error.stack ?? error.message;
  return error.cause instanceof Error ? `${own}\ncaused by ${stackOf(error.cause)}` : own;
}
