// What somebody meant who typed a name that does not exist: keys of a recipe, values, methods, commands.

/** What makes `learning_rate`, `learningRate` and `learning-rate` the same word. */
export function bare(name: string): string {
  return name.toLowerCase().replace(/[-_\s]/g, "");
}

/** Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b`. */
export function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let best = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) best = Math.min(best, beforeLast[j - 2]! + 1);
      row.push(best);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length]!;
}

/**
 * The candidate that is nearest to `given`, or undefined when none is near: at most two letters in five may differ.
 *
 * @param aliases other words for a candidate, such as learningRate for lr
 */
export function nearest(
  given: string,
  candidates: readonly string[],
  aliases: Readonly<Record<string, string>> = {},
): string | undefined {
  const words = [...candidates.map((name) => [name, name] as const), ...Object.entries(aliases)];
  let best: string | undefined;
  let least = Number.POSITIVE_INFINITY;
  for (const [word, name] of words) {
    if (!candidates.includes(name)) continue;
    const [a, b] = [bare(given), bare(word)];
    const distance = editDistance(a, b);
    const longest = Math.max(a.length, b.length);
    if (distance < least && distance <= Math.max(longest > 1 ? 1 : 0, Math.floor(0.4 * longest))) {
      best = name;
      least = distance;
    }
  }
  return best;
}
