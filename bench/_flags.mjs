// The flags of the benchmarks: wrong ones end the program with one sentence and exit code 2.
import { parseArgs } from "node:util";

/** Ends the program: what it was given cannot be done. */
export function refuse(message) {
  process.stderr.write(`${message}\n`);
  process.exit(2);
}

/** The flags given, by their `parseArgs` options; `--help` prints the help and ends the program. */
export function readFlags(help, options) {
  let values;
  try {
    ({ values } = parseArgs({ options: { ...options, help: { type: "boolean", default: false } } }));
  } catch (error) {
    refuse(`${error.message}; --help lists the flags`);
  }
  if (!values.help) return values;
  process.stdout.write(help);
  process.exit(0);
}

/** One of the words that a flag takes. */
export function oneOf(flag, given, known) {
  return known.includes(given) ? given : refuse(`--${flag} is "${given}"; expected one of ${known.join(", ")}`);
}

/** Words with commas between them, each one of those a flag takes. */
export function someOf(flag, given, known) {
  return given.split(",").map((each) => oneOf(flag, each.trim(), known));
}

export function wholeNumber(flag, given, least = 1) {
  const number = Number(given);
  if (given.trim() !== "" && Number.isSafeInteger(number) && number >= least) return number;
  return refuse(`--${flag} is "${given}"; expected a whole number, ${least} or more`);
}
