import { describe, expect, it } from "vitest";
import { importsOf } from "./imports.mjs";

const brief = (source) =>
  importsOf(source).map(({ from, line, typeOnly, dynamic }) => [
    from,
    line,
    ...(typeOnly ? ["type"] : []),
    ...(dynamic ? ["dynamic"] : []),
  ]);

describe("importsOf", () => {
  it("reads every form of import and re-export", () => {
    const source = [
      'import "a";',
      'import b from "b";',
      'import * as c from "c";',
      "import d, {\n  e,\n  type F as G,\n} from 'd';",
      'import type { H } from "h";',
      'import type from "i";',
      'export * from "j";',
      'export * as k from "k";',
      'export type { L } from "l";',
      'export { m } from "m";',
      'const n = await import("n");',
      'type O = import("o").O;',
    ].join("\n");
    expect(brief(source)).toEqual([
      ["a", 1],
      ["b", 2],
      ["c", 3],
      ["d", 4],
      ["h", 8, "type"],
      ["i", 9],
      ["j", 10],
      ["k", 11],
      ["l", 12, "type"],
      ["m", 13],
      ["n", 14, "dynamic"],
      // A type alias' import stands after "=", as a value's would: it counts as a dynamic one, which the door rule sees too.
      ["o", 15, "dynamic"],
    ]);
  });

  it("is not misled by comments, strings, templates, regular expressions and other exports", () => {
    const source = [
      '// import "no";',
      '/* import "no"; */',
      "const a = 'import \"no\"';",
      // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the source that is read
      'const b = `import "no" ${`${1}` + "}"} from "no"`;',
      'const c = /["\'`/*]/.test(a) ? 1 / 2 / 3 : /[/"]/g;',
      "export const from = { import: 1 }; const d = x.import('no');",
      "export { a, b };",
      // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the source that is read
      'export function f() { return `${{ a: "}" }.a}`; }',
      "const url = import.meta.url;",
      'import yes from "yes";',
    ].join("\n");
    expect(brief(source)).toEqual([["yes", 10]]);
  });

  it("takes hashbangs and private fields in its stride", () => {
    expect(brief('#!/usr/bin/env node\nclass A { #from = 1; }\nimport "a";')).toEqual([["a", 3]]);
  });

  it.each(["'", '"', "`", "`${", "/*", "/", "import", "import {", "export *"])("ends on the unfinished source %s", (source) => {
    expect(brief(source)).toEqual([]);
  });
});
