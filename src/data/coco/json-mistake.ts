// Where a text stops being JSON: JSON.parse refuses it, but does not always say where.

/** A text that is no JSON: the first letter that is wrong, and what should be there. */
export interface Mistake {
  readonly at: number;
  readonly expected: string;
}

const space = /[ \t\n\r]*/y;
const number = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const word = /true|false|null/y;
// Letters below 32 must be escaped in a string.
// biome-ignore lint/suspicious/noControlCharactersInRegex: those are what the rule of JSON is about
const stringPart = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*/y;

/** The first mistake of a text that JSON.parse has refused. */
export function firstMistake(text: string): Mistake {
  let at = 0;
  /** What still has to be closed. */
  const open: ("[" | "{")[] = [];
  const take = (pattern: RegExp): boolean => {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (!found) return false;
    at += found[0].length;
    return true;
  };
  const wrong = (expected: string): Mistake => ({ at, expected: `expected ${expected}` });
  const string = (): boolean => {
    if (!take(stringPart)) return false;
    if (text[at] !== '"') return false;
    at++;
    return true;
  };
  const name = (): Mistake | undefined => {
    take(space);
    if (text[at] !== '"') return wrong("a name in quotes");
    if (!string()) return wrong("a closing quote or a valid escape");
    take(space);
    if (text[at] !== ":") return wrong(":");
    at++;
    return undefined;
  };
  for (;;) {
    // A value begins.
    take(space);
    const letter = text[at];
    if (letter === "[" || letter === "{") {
      at++;
      take(space);
      if (text[at] !== (letter === "[" ? "]" : "}")) {
        open.push(letter);
        const mistake = letter === "{" ? name() : undefined;
        if (mistake) return mistake;
        continue;
      }
      at++;
    } else if (letter === '"') {
      if (!string()) return wrong("a closing quote or a valid escape");
    } else if (!take(word) && !take(number)) return wrong("a value");
    // A value has ended: what follows belongs to whatever is open.
    for (;;) {
      take(space);
      const inside = open.at(-1);
      if (inside === undefined) return wrong("nothing more");
      const close = inside === "[" ? "]" : "}";
      if (text[at] === close) {
        at++;
        open.pop();
        continue;
      }
      if (text[at] !== ",") return wrong(`, or ${close}`);
      at++;
      const mistake = inside === "{" ? name() : undefined;
      if (mistake) return mistake;
      break;
    }
  }
}
