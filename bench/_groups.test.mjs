import { describe, expect, it } from "vitest";
import { byGroup, groupOf, kindOf, regions } from "./_groups.mjs";

describe("groups of operators", () => {
  it("tell an attention's products from the others, and copies from arithmetic", () => {
    expect(["aten::bmm", "aten::addmm", "aten::_to_copy", "aten::native_layer_norm_backward"].map(kindOf)).toEqual([
      "attention products",
      "matrix products",
      "copies and casts",
      "normalisation",
    ]);
    expect(["aten::add_", "aten::gelu_backward", "AddmmBackward0", "torch::autograd::AccumulateGrad"].map(kindOf)).toEqual([
      "elementwise and others",
      "activations",
      "autograd",
      "autograd",
    ]);
  });

  it("follow the part of the step first", () => {
    const part = (region, name = "aten::add", backward = false) => groupOf({ name, region, backward })[0];
    expect(part(regions.encoder)).toBe("encoder");
    expect(part(regions.heads)).toBe("heads, decoders, loss");
    expect(part(regions.update)).toBe("optimiser");
    expect(part(regions.after)).toBe("moving averages");
    expect(part(regions.rest, "aten::_foreach_norm")).toBe("gradient norm and clipping");
    expect(part(regions.rest, "aten::copy_")).toBe("bytes to tensors, buffers kept");
    expect(part(regions.rest, "torch::autograd::AccumulateGrad", true)).toBe("gradients between nodes");
    expect(part(regions.backward, "aten::sum")).toBe("gradients between nodes");
  });

  it("add up what a profile tells", () => {
    const one = { backward: false, region: regions.encoder, calls: 2, wall: 3, cpu: 6 };
    const groups = byGroup(
      [
        { ...one, name: "aten::add" },
        { ...one, name: "aten::mm" },
        { ...one, name: "aten::addmm" },
      ],
      "cpu",
    );
    expect(groups).toEqual([
      { part: "encoder", kind: "matrix products", ms: 12, calls: 4 },
      { part: "encoder", kind: "elementwise and others", ms: 6, calls: 2 },
    ]);
  });
});
