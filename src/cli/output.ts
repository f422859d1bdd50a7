// Results go to standard output, everything else to standard error.

/** A line for people: progress, logs, hints. */
export function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** A result for people. */
export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** The result for programs: the only thing on standard output. */
export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}

/** Columns aligned by spaces; numbers (cells that begin with a digit, beyond the first column) to the right. */
export function table(rows: readonly (readonly string[])[], indent = ""): string {
  const columns = Math.max(...rows.map((row) => row.length));
  const widths = Array.from({ length: columns }, (_, c) => Math.max(...rows.map((row) => row[c]?.length ?? 0)));
  const isNumber = Array.from(
    { length: columns },
    (_, c) => c > 0 && rows.slice(1).every((row) => /^([-+]?\d.*)?$/.test(row[c] ?? "")) && rows.length > 1,
  );
  return rows
    .map((row) =>
      row
        .map((cell, c) => (isNumber[c] ? cell.padStart(widths[c]!) : c === row.length - 1 ? cell : cell.padEnd(widths[c]!)))
        .join("  "),
    )
    .map((line) => `${indent}${line}`.trimEnd())
    .join("\n");
}

/** Shows how far something is: one line that is rewritten in a terminal, a line every ten percent elsewhere. */
export class Counter {
  #shown = -1;
  #open = false;

  constructor(
    readonly what: string,
    readonly quiet = false,
    readonly stream: NodeJS.WriteStream = process.stderr,
  ) {}

  show(done: number, total: number, rest = ""): void {
    if (this.quiet || total <= 0) return;
    const percent = Math.floor((100 * Math.min(done, total)) / total);
    const step = this.stream.isTTY ? percent : Math.floor(percent / 10) * 10;
    if (step === this.#shown) return;
    this.#shown = step;
    const line = `${this.what}: ${Math.min(done, total)} of ${total}${rest}`;
    this.stream.write(this.stream.isTTY ? `\r\x1b[2K${line}` : `${line}\n`);
    this.#open = this.stream.isTTY === true;
  }

  end(): void {
    if (this.#open) this.stream.write("\r\x1b[2K");
    this.#open = false;
  }
}
