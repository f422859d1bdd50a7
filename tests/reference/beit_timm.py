"""timm's Beit on weights by formula: classifiers with biases by relative position, in each block and shared, pooled and by class token; and
timm's resizing of the tables. Needs timm.

Input fill([2, 3, 24, 32], 1), patches of 8: a grid of 3 x 4. Loss = sum of the logits times fill(shape, 2).
"""
import torch

try:
    import timm  # noqa: F401
except RuntimeError:  # a torchvision whose operators do not load: timm only needs their names
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from timm.layers.pos_embed_rel import resize_rel_pos_bias_table_simple
from timm.models.beit import Beit

from golden_io import fill, finish
from vit import set_weights, value_of

cases = {}
for name, where, pool in [("block, pooled", "block", "avg"), ("shared, class token", "shared", "token"), ("none, pooled", "none", "avg")]:
    model = Beit(
        img_size=(24, 32),
        patch_size=8,
        embed_dim=16,
        depth=2,
        num_heads=2,
        num_classes=5,
        global_pool=pool,
        init_values=0.1,
        use_abs_pos_emb=True,
        use_rel_pos_bias=where == "block",
        use_shared_rel_pos_bias=where == "shared",
    ).double()
    set_weights(model)
    logits = model(fill([2, 3, 24, 32], 1))
    (logits * fill([2, 5], 2)).sum().backward()
    cases[name] = dict(
        where=where,
        pool=pool,
        shapes={key: list(each.shape) for key, each in model.state_dict().items()},
        logits=logits,
        gradients={
            key: each.grad
            for key, each in model.named_parameters()
            if key.endswith(("bias_table", "head.weight", "fc_norm.weight", "cls_token", "blocks.0.gamma_1", "blocks.1.attn.q_bias"))
            and each.grad is not None
        },
    )

resized = {}
for old, new in [(4, (3, 5)), (3, (6, 4))]:
    table = value_of("table", ((2 * old - 1) ** 2 + 3, 2))
    rows = (2 * new[0] - 1) * (2 * new[1] - 1) + 3
    resized[f"{old} to {new[0]}x{new[1]}"] = resize_rel_pos_bias_table_simple(table, new, (rows, 2))

finish("beit_timm", {"cases": cases, "resized": resized})
