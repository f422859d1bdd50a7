/**
 * Reads the imports out of a TypeScript source. A small scanner instead of a parser: it knows comments, strings, templates and
 * regular expressions, so that only real imports are seen, and it needs no dependency.
 */

/**
 * @typedef {object} Import
 * @property {string} from the module specifier as written
 * @property {number} line counted from 1
 * @property {boolean} typeOnly `import type` or `export type`: gone when the program runs
 * @property {boolean} dynamic `import(...)`
 */

/** All static imports, re-exports and `import("...")` of a source, in order. @returns {Import[]} */
export function importsOf(source) {
  const tokens = tokensOf(source);
  const found = [];
  for (let i = 0; i < tokens.length; i++) {
    const { kind, text, line } = tokens[i];
    if (kind !== "word" || tokens[i - 1]?.text === ".") continue;
    if (text === "import") {
      const next = tokens[i + 1];
      if (next?.text === "(" && tokens[i + 2]?.kind === "string") {
        // `import("...")` in a type has no await, then or return before it; it is type-only when only types are asked of it.
        found.push({ from: tokens[i + 2].text, line, typeOnly: isInType(tokens, i), dynamic: true });
      } else if (next?.kind === "string") {
        found.push({ from: next.text, line, typeOnly: false, dynamic: false });
      } else if (next?.kind === "word" || next?.text === "{" || next?.text === "*") {
        const from = specifierAfter(tokens, i + 1);
        if (from) found.push({ from, line, typeOnly: isTypeOnly(tokens, i + 1), dynamic: false });
      }
    } else if (text === "export") {
      const typeOnly = tokens[i + 1]?.text === "type";
      const open = tokens[i + (typeOnly ? 2 : 1)]?.text;
      const from = open === "{" || open === "*" ? specifierAfter(tokens, i + 1) : null;
      if (from) found.push({ from, line, typeOnly, dynamic: false });
    }
  }
  return found;
}

/** `import type X from`, `import type { X } from`; but `import type from` imports a value called "type". */
function isTypeOnly(tokens, at) {
  return tokens[at].text === "type" && tokens[at + 1]?.text !== "from" && tokens[at + 1]?.text !== ",";
}

/** The string after `from`, when it comes before the statement can have ended. */
function specifierAfter(tokens, at) {
  for (let i = at; i < tokens.length; i++) {
    const { kind, text } = tokens[i];
    if (kind === "word" && text === "from" && tokens[i + 1]?.kind === "string") return tokens[i + 1].text;
    if (kind !== "word" && !["{", "}", ",", "*"].includes(text) && kind !== "string") return null;
    if (i > at && (text === "import" || text === "export")) return null;
  }
  return null;
}

/** A type such as `: import("./x.js").X` or `typeof import("./x.js")`. */
function isInType(tokens, at) {
  const before = tokens[at - 1]?.text;
  return before === ":" || before === "typeof" || before === "<" || before === "|" || before === "&";
}

/** Words after which a slash begins a regular expression. */
const BEFORE_REGEX = new Set([
  "return",
  "typeof",
  "case",
  "in",
  "of",
  "do",
  "else",
  "void",
  "delete",
  "throw",
  "new",
  "await",
  "yield",
]);

/** Words, strings and single signs, without comments, templates' text and regular expressions. */
function tokensOf(source) {
  const tokens = [];
  /** How many braces are open in each `${` that is being read. */
  const holes = [];
  let line = 1;
  let i = 0;
  const push = (kind, text) => tokens.push({ kind, text, line });
  const skipTo = (end) => {
    for (; i < end; i++) if (source[i] === "\n") line++;
  };
  const template = () => {
    for (i++; i < source.length; i++) {
      if (source[i] === "\\") i++;
      else if (source[i] === "`") break;
      else if (source[i] === "$" && source[i + 1] === "{") {
        holes.push(0);
        i += 2;
        return;
      }
      if (source[i] === "\n") line++;
    }
    i++;
  };
  while (i < source.length) {
    const sign = source[i];
    if (sign === "\n" || sign === " " || sign === "\t" || sign === "\r") skipTo(i + 1);
    else if (source.startsWith("//", i)) skipTo(endOf(source, "\n", i));
    else if (source.startsWith("/*", i)) skipTo(endOf(source, "*/", i + 2) + 2);
    else if (sign === '"' || sign === "'") {
      const end = endOfString(source, i);
      push("string", source.slice(i + 1, end));
      skipTo(end + 1);
    } else if (sign === "`") {
      push("template", "");
      template();
    } else if (sign === "}" && holes.at(-1) === 0) {
      holes.pop();
      template();
    } else if (sign === "/" && beginsRegex(tokens.at(-1))) {
      skipTo(endOfRegex(source, i));
      push("regex", "");
    } else {
      const word = /[\p{ID_Start}\p{ID_Continue}$#]+/uy;
      word.lastIndex = i;
      const text = word.exec(source)?.[0];
      if (!text && holes.length > 0 && (sign === "{" || sign === "}")) holes[holes.length - 1] += sign === "{" ? 1 : -1;
      push(text ? "word" : "sign", text ?? sign);
      i += (text ?? sign).length;
    }
  }
  return tokens;
}

function endOf(source, text, from) {
  const at = source.indexOf(text, from);
  return at < 0 ? source.length : at;
}

function endOfString(source, start) {
  for (let i = start + 1; i < source.length; i++) {
    if (source[i] === "\\") i++;
    else if (source[i] === source[start]) return i;
  }
  return source.length;
}

function beginsRegex(before) {
  if (!before) return true;
  if (before.kind === "word") return BEFORE_REGEX.has(before.text);
  return before.kind === "sign" && ![")", "]", "}"].includes(before.text);
}

function endOfRegex(source, start) {
  let inClass = false;
  for (let i = start + 1; i < source.length && source[i] !== "\n"; i++) {
    if (source[i] === "\\") i++;
    else if (source[i] === "[") inClass = true;
    else if (source[i] === "]") inClass = false;
    else if (source[i] === "/" && !inClass) return i + 1;
  }
  return start + 1;
}
