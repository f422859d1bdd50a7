// The operators of a training step in groups that a reader can act on.

/** Regions of a step, in the order in which they are told of. */
export const regions = { rest: 0, encoder: 1, heads: 2, update: 3, after: 4, backward: 5 };

const kinds = [
  ["attention", /^(cross_)?attention(_backward)?$/],
  ["attention products", /^(bmm|baddbmm|_scaled_dot_product.*|scaled_dot_product.*)$/],
  ["matrix products", /^(mm|addmm|linear|linear_backward|matmul|mv|addmv|addbmm|_addmm_activation|weight_gradient)$/],
  ["convolutions", /conv/],
  ["softmax", /softmax|logsumexp|cross_entropy|nll_loss/],
  ["normalisation", /layer_norm|batch_norm|group_norm|_norm_interface|^norm$|^add_norm|^weight_norm/],
  [
    "activations",
    /^(gelu|gelu_backward|bias_gelu|bias_gelu_backward|gelu_linear|relu|relu_|threshold_backward|silu|silu_backward|tanh)$/,
  ],
  [
    "copies and casts",
    /^(copy_|_to_copy|to|clone|contiguous|cat|stack|_foreach_copy_|gather|gather_backward|scatter|scatter_|scatter_add_?|index.*|where|slice_backward|select_backward|_index_put.*|reshape|flip|constant_pad_nd|pixel_shuffle|pixel_unshuffle|repeat|fill_|zero_|zeros.*|new_zeros|masked_fill_?|.*_copy)$/,
  ],
  ["sums", /^(sum|mean|sum_to_size|linalg_vector_norm|_foreach_norm|var|std|var_mean|max|min|amax|argmax)$/],
];

/** The kind of an operator: `matrix products`, `copies and casts`, ...; `autograd` for the nodes of backward's graph. */
export function kindOf(name) {
  if (!name.includes("::") || name.startsWith("torch::autograd::")) return "autograd";
  const short = name.slice(name.indexOf("::") + 2);
  return kinds.find(([, pattern]) => pattern.test(short))?.[0] ?? "elementwise and others";
}

const clipping = /^aten::(_foreach_|linalg_vector_norm|stack|isfinite|all|reciprocal|clamp|norm|isinf|ne|eq|abs)/;

/** Where an operator's time belongs: [part of the step, kind]. The parts outside the model are not divided further. */
export function groupOf({ name, region, backward }) {
  if (region === regions.encoder) return ["encoder", kindOf(name)];
  if (region === regions.heads) return ["heads, decoders, loss", kindOf(name)];
  if (region === regions.update) return ["optimiser", ""];
  if (region === regions.after) return ["moving averages", ""];
  // What the engine does between the graph's nodes: adding gradients up, summing those of biases, giving them to parameters.
  if (backward || region === regions.backward) return ["gradients between nodes", ""];
  return clipping.test(name) ? ["gradient norm and clipping", ""] : ["bytes to tensors, buffers kept", ""];
}

/**
 * Time by group, the longest first within its part.
 *
 * @param operators of `profile`
 * @param clock `wall` or `cpu`
 * @returns [{ part, kind, ms, calls }]
 */
export function byGroup(operators, clock) {
  const groups = new Map();
  for (const each of operators) {
    const [part, kind] = groupOf(each);
    const key = `${part}|${kind}`;
    const group = groups.get(key) ?? { part, kind, ms: 0, calls: 0 };
    group.ms += each[clock];
    group.calls += each.calls;
    groups.set(key, group);
  }
  const order = ["encoder", "heads, decoders, loss"];
  const rank = (group) => (order.includes(group.part) ? order.indexOf(group.part) : order.length);
  return [...groups.values()].sort((a, b) => rank(a) - rank(b) || b.ms - a.ms);
}
