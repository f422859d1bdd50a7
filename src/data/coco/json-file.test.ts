import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DataError } from "../errors.js";
import { JsonFile } from "./json-file.js";
import { firstMistake } from "./json-mistake.js";

/** JSON of any kind, with one letter lost, put in or changed. */
const damaged = fc
  .tuple(fc.json(), fc.nat(), fc.constantFrom("", ...'{}[],:"\\\n -+.eE019tfnul\u00e9'), fc.boolean())
  .map(([text, at, letter, replace]) => {
    const place = at % (text.length + 1);
    return text.slice(0, place) + letter + text.slice(place + Number(replace || letter === ""));
  });

function parse(text: string): unknown {
  try {
    return { value: JSON.parse(text) };
  } catch {
    return undefined;
  }
}

/** Everything in a file, put together again. */
function collect(text: string): unknown {
  const parts = [...new JsonFile("x.json", Buffer.from(text)).parts()];
  if (text.trimStart().startsWith("[")) return parts.flatMap(({ index, value }) => (index === undefined ? [] : [value]));
  const object: Record<string, unknown> = Object.create(null);
  for (const { key, index, value } of parts) {
    if (index === undefined) object[key] = value;
    else if (index === 0) object[key] = [value];
    else (object[key] as unknown[]).push(value);
  }
  return { ...object };
}

describe("the first mistake in a text", () => {
  it("is past the end of what is JSON, and before it in all else", () => {
    fc.assert(
      fc.property(damaged, (text) => {
        const { at, expected } = firstMistake(text);
        const right = at === text.length && expected === "expected nothing more";
        expect(right).toBe(parse(text) !== undefined);
      }),
      { numRuns: 2000 },
    );
  });

  it("comes after nothing but the beginning of some JSON", () => {
    for (const [text, at] of [
      ["[1, 2", 5],
      ["[1 2]", 3],
      ['{"a": 01}', 7],
      ['{"a": tru}', 6],
      ['{"a" "b"}', 5],
      ['["a\\x"]', 3],
      ["[1]]", 3],
      ["", 0],
    ] as const) {
      expect([text, firstMistake(text).at]).toEqual([text, at]);
    }
  });
});

describe("a JSON file, part by part", () => {
  it("is what JSON.parse makes of it", () => {
    const file = fc.oneof(fc.dictionary(fc.string(), fc.jsonValue()), fc.array(fc.jsonValue()));
    fc.assert(
      fc.property(file, fc.constantFrom(0, 2), (content, indent) => {
        const text = JSON.stringify(content, undefined, indent);
        expect(collect(text)).toEqual(JSON.parse(text));
      }),
    );
  });

  it("is refused where JSON.parse refuses it, with a place", () => {
    fc.assert(
      fc.property(damaged, (text) => {
        const parsed = parse(text) as { value: unknown } | undefined;
        const nested = typeof parsed?.value === "object" && parsed.value !== null;
        if (nested) expect(() => collect(text)).not.toThrow();
        else {
          expect(() => collect(text)).toThrow(DataError);
          expect(() => collect(text)).toThrow(/^x\.json:\d+:\d+: not JSON: /);
        }
      }),
      { numRuns: 1000 },
    );
  });
});
