// Floating-point operations of matrix products and convolutions, from the shapes of their arguments: two for each multiplication and addition, as
// PyTorch's FlopCounterMode counts them. Everything else in a step is small beside these, and is not counted.

const size = (list) => list.reduce((product, each) => product * each, 1);
const at = (list, i) => list[i % list.length];

/** Positions that a kernel is laid on, of a convolution's arguments in ATen's order. */
function positions(input, weight, stride, padding, dilation, transposed) {
  const sides = input.slice(2);
  if (transposed) return size(sides);
  return size(
    sides.map(
      (side, i) => Math.floor((side + 2 * at(padding, i) - at(dilation, i) * (weight[i + 2] - 1) - 1) / at(stride, i)) + 1,
    ),
  );
}

const attention = ([q, k, v], products) =>
  2 * size(q.slice(0, -1)) * k.at(-2) * ((products / 2) * q.at(-1) + (products / 2) * v.at(-1));

const rules = {
  "aten::mm": ([a, b]) => 2 * size(a) * b[1],
  "aten::addmm": ([, a, b]) => 2 * size(a) * b[1],
  "aten::bmm": ([a, b]) => 2 * size(a) * b[2],
  "aten::baddbmm": ([, a, b]) => 2 * size(a) * b[2],
  "aten::convolution": ([input, weight, , stride, padding, dilation, transposed]) =>
    2 * input[0] * size(weight) * positions(input, weight, stride, padding, dilation, transposed),
  "aten::convolution_backward": ([gradient, input, weight, , , , , transposed, , , mask]) =>
    2 * input[0] * size(weight) * size((transposed ? input : gradient).slice(2)) * (Number(mask[0]) + Number(mask[1])),
  // Two products of every pair of tokens; backward has four, beside the scores made again, which an attention in parts does not make.
  "tessera::attention": ([qkv]) => (4 / 3) * size(qkv) * qkv[1],
  "tessera::attention_backward": ([qkv]) => (8 / 3) * size(qkv) * qkv[1],
  "tessera::cross_attention": ([q, k]) => 4 * size(q) * k[1],
  "tessera::cross_attention_backward": ([q, k]) => 8 * size(q) * k[1],
  "tessera::weight_gradient": ([gradient, x]) => 2 * size(gradient) * x[1],
  "aten::_scaled_dot_product_flash_attention_for_cpu": (shapes) => attention(shapes, 2),
  // Scores are made again, then four products.
  "aten::_scaled_dot_product_flash_attention_for_cpu_backward": ([, ...shapes]) => attention(shapes, 5),
};

/** The operators that are counted. */
export const countedOperators = Object.keys(rules);

/** Operations of one call. @param shapes the arguments as `profile` gives them */
export function flopsOf(name, shapes) {
  const rule = rules[name];
  if (!rule) throw new RangeError(`no rule says how many operations ${name} has; known: ${countedOperators.join(", ")}`);
  return rule(shapes);
}

/** Operations of all calls that a profile tells the shapes of. */
export function totalFlops(operators) {
  return operators.reduce((sum, { name, shapes, calls }) => sum + (shapes ? calls * flopsOf(name, shapes) : 0), 0);
}
