// Large JSON files, one element of their lists at a time: COCO's annotations are hundreds of megabytes, more than is good to hold as objects, and
// a problem should be told with its line and column. Only the outermost braces and lists are walked here; JSON.parse reads what is in them.
import { readFile } from "node:fs/promises";
import { DataError, messageOf } from "../errors.js";
import { firstMistake } from "./json-mistake.js";

/** One member of the outermost object, or one element of a list in it. */
export interface JsonPart {
  /** The member's name; "" where the whole file is a list. */
  readonly key: string;
  /** The place in the list; undefined for a member that is no list, and for an empty list. */
  readonly index: number | undefined;
  readonly value: unknown;
  /** The byte at which it begins: see `place`. */
  readonly offset: number;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const [OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT] = [0x5b, 0x5d, 0x7b, 0x7d];
const [COMMA, COLON] = [0x2c, 0x3a];

export class JsonFile {
  readonly path: string;
  readonly #bytes: Buffer;
  #at = 0;

  constructor(path: string, bytes: Buffer) {
    this.path = path;
    this.#bytes = bytes;
  }

  /** @param what how the file is called in errors, such as "annotations" */
  static async read(path: string, what: string): Promise<JsonFile> {
    let bytes: Buffer;
    try {
      bytes = await readFile(path);
    } catch (cause) {
      const code = (cause as NodeJS.ErrnoException).code;
      if (code === "ENOENT") throw new DataError(`There is no ${what} file ${path}.`, { cause });
      if (code === "EISDIR") throw new DataError(`${path} is a folder; expected a JSON file with ${what}.`, { cause });
      throw new DataError(`${path} cannot be read: ${messageOf(cause)}.`, { cause });
    }
    if (bytes.length === 0) throw new DataError(`${path} is empty (0 bytes); expected JSON with ${what}.`);
    return new JsonFile(path, bytes);
  }

  /** `path:line:column` of a byte, both from 1. */
  place(offset: number): string {
    const before = this.#bytes.subarray(0, offset);
    let line = 1;
    for (let at = before.indexOf(10); at >= 0; at = before.indexOf(10, at + 1)) line++;
    let column = 1;
    for (let at = before.lastIndexOf(10) + 1; at < before.length; at++) {
      if ((before[at]! & 0xc0) !== 0x80) column++; // the further bytes of a letter do not count
    }
    return `${this.path}:${line}:${column}`;
  }

  /** Everything in the file, part by part, in order. Throws a `DataError` with the place where it is not JSON. */
  *parts(): Generator<JsonPart, void, void> {
    const bytes = this.#bytes;
    this.#at = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? 3 : 0;
    const first = this.#next("a list or an object");
    if (first === OPEN_LIST) yield* this.#list("");
    else if (first === OPEN_OBJECT) yield* this.#members();
    else this.#fail(this.#at, "expected a list or an object");
    this.#skipSpace();
    if (this.#at < bytes.length) this.#fail(this.#at, "expected nothing after the end");
  }

  *#members(): Generator<JsonPart, void, void> {
    this.#at++;
    if (this.#next("a name or }") === CLOSE_OBJECT) {
      this.#at++;
      return;
    }
    for (;;) {
      if (this.#next("a name in quotes") !== QUOTE) this.#fail(this.#at, "expected a name in quotes");
      const key = String(this.#parse(this.#at, this.#endOfString(this.#at, "a name"), "a name"));
      if (this.#next(`: after "${key}"`) !== COLON) this.#fail(this.#at, `expected : after "${key}"`);
      this.#at++;
      if (this.#next(`the value of "${key}"`) === OPEN_LIST) yield* this.#list(key);
      else yield this.#value(key, undefined);
      const next = this.#next(", or }");
      this.#at++;
      if (next === CLOSE_OBJECT) return;
      if (next !== COMMA) this.#fail(this.#at - 1, `expected , or } after "${key}"`);
      if (this.#next("a name") === CLOSE_OBJECT) this.#fail(this.#at, "expected another name after the comma");
    }
  }

  *#list(key: string): Generator<JsonPart, void, void> {
    const offset = this.#at++;
    if (this.#next("a value or ]") === CLOSE_LIST) {
      this.#at++;
      yield { key, index: undefined, value: [], offset };
      return;
    }
    for (let index = 0; ; index++) {
      this.#next(`${key}[${index}]`);
      yield this.#value(key, index);
      const next = this.#next(`, or ] after ${key}[${index}]`);
      this.#at++;
      if (next === CLOSE_LIST) return;
      if (next !== COMMA) this.#fail(this.#at - 1, `expected , or ] after ${key}[${index}]`);
    }
  }

  #value(key: string, index: number | undefined): JsonPart {
    const offset = this.#at;
    const what = index === undefined ? `"${key}"` : `${key}[${index}]`;
    const end = this.#endOfValue(offset, what);
    const value = this.#parse(offset, end, what);
    return { key, index, value, offset };
  }

  /** Reads what lies from `start` to `end` and goes on at `end`. */
  #parse(start: number, end: number, what: string): unknown {
    const text = this.#bytes.toString("utf8", start, end);
    this.#at = end;
    try {
      return JSON.parse(text);
    } catch {
      const { at, expected } = firstMistake(text);
      return this.#fail(start + Buffer.byteLength(text.slice(0, at)), `${expected} in ${what}`);
    }
  }

  #skipSpace(): void {
    const bytes = this.#bytes;
    let at = this.#at;
    for (let byte = bytes[at]; byte === 32 || byte === 10 || byte === 13 || byte === 9; byte = bytes[at]) at++;
    this.#at = at;
  }

  /** The next byte that is no space; `expected` is told where the file ends instead. */
  #next(expected: string): number {
    this.#skipSpace();
    const byte = this.#bytes[this.#at];
    return byte === undefined ? this.#fail(this.#at, `the file ends where ${expected} is expected`) : byte;
  }

  #endOfString(start: number, what: string): number {
    const bytes = this.#bytes;
    for (let at = start + 1; at < bytes.length; at++) {
      if (bytes[at] === QUOTE) return at + 1;
      if (bytes[at] === BACKSLASH) at++;
    }
    return this.#fail(bytes.length, `the file ends within ${what}, which begins at ${this.#short(start)}`);
  }

  #endOfValue(start: number, what: string): number {
    const bytes = this.#bytes;
    const first = bytes[start];
    if (first === QUOTE) return this.#endOfString(start, what);
    const nested = first === OPEN_LIST || first === OPEN_OBJECT;
    let depth = 0;
    for (let at = start; at < bytes.length; at++) {
      const byte = bytes[at];
      if (byte === QUOTE) at = this.#endOfString(at, what) - 1;
      else if (byte === OPEN_LIST || byte === OPEN_OBJECT) depth++;
      else if (byte === CLOSE_LIST || byte === CLOSE_OBJECT) {
        depth--;
        if (nested && depth === 0) return at + 1;
        if (depth < 0) return at;
      } else if (!nested && byte === COMMA) return at;
    }
    // Perhaps not the end is wrong but what is open: a bracket that is never closed swallows all that follows.
    const text = bytes.toString("utf8", start, start + (1 << 20));
    const { at, expected } = firstMistake(text);
    if (at < text.length) this.#fail(start + Buffer.byteLength(text.slice(0, at)), `${expected} in ${what}`);
    return this.#fail(bytes.length, `the file ends within ${what}, which begins at ${this.#short(start)}`);
  }

  /** line:column. */
  #short(offset: number): string {
    return this.place(offset).slice(this.path.length + 1);
  }

  #fail(offset: number, what: string): never {
    const near = this.#bytes.toString("utf8", Math.max(0, offset - 20), offset + 20).replace(/\s+/g, " ");
    throw new DataError(`${this.place(offset)}: not JSON: ${what} (near ${JSON.stringify(near)}).`);
  }
}
