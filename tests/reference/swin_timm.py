"""timm's Swin Transformers on weights by formula: names, outputs, stages, attention and gradients in float64. Needs timm.

Small ones in which windows shift, need filling up, and shrink; and Swin-T at 224 px, by its sums.
"""
import base64

import torch

try:
    import timm
except RuntimeError:  # a torchvision whose operators do not load: timm only needs their names
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import timm
from safetensors.torch import save
from timm.models.swin_transformer import SwinTransformer

from golden_io import fill, finish
from vit import describe, set_weights


def small(size, **options):
    """A model, the output of every stage, and the mean over queries of the last block's attention."""
    settings = dict(embed_dim=8, depths=(2, 2), num_heads=(2, 4), window_size=4, drop_path_rate=0.0, num_classes=0) | options
    model = set_weights(SwinTransformer(img_size=size, patch_size=4, strict_img_size=True, **settings).double())
    images = fill([2, 3, size, size], 1)
    seen = []
    softmax = model.layers[-1].blocks[-1].attn.softmax
    softmax.register_forward_hook(lambda module, given, out: seen.append(out))
    x = model.patch_embed(images)
    stages = []
    for layer in model.layers:
        x = layer(x)
        stages.append(x.flatten(1, 2))
    tokens = model.norm(x).flatten(1, 2)
    assert torch.allclose(model(images), tokens.mean(1))
    (tokens * fill(list(tokens.shape), 2)).sum().backward()
    return {
        "tokens": tokens[1],
        "stages": [stage.sum().item() for stage in stages],
        "stage squares": [stage.square().sum().item() for stage in stages],
        # One window covers the last stage.
        "attention": seen[0].mean(2) if seen[0].shape[0] == 2 else None,
        "gradients": {name: describe(each.grad) for name, each in model.named_parameters()},
    }


def masked(size=32):
    """Cells of the last grid whose patches are a token instead: the output, and the gradients of the token and of what makes patches."""
    settings = dict(embed_dim=8, depths=(2, 2), num_heads=(2, 4), window_size=4, drop_path_rate=0.0, num_classes=0)
    model = set_weights(SwinTransformer(img_size=size, patch_size=4, **settings).double())
    token = fill([8], 4).requires_grad_()
    cells = fill([2, 4, 4], 5) > 0.3
    # A cell of the last grid is 2 x 2 patches.
    patches = torch.stack([torch.kron(each.double(), torch.ones(2, 2).double()) for each in cells]).unsqueeze(-1)
    x = model.patch_embed(fill([2, 3, size, size], 1))
    tokens = model.norm(model.layers((1 - patches) * x + patches * token)).flatten(1, 2)
    (tokens * fill(list(tokens.shape), 2)).sum().backward()
    return {"cells": cells.flatten(1).double(), "tokens": tokens[1], "token": token.grad, "proj": model.patch_embed.proj.weight.grad}


tiny = set_weights(timm.create_model("swin_tiny_patch4_window7_224", pretrained=False, num_classes=0).double()).eval()
images = fill([1, 3, 224, 224], 1)
with torch.no_grad():
    feature = tiny(images)[0]
file = set_weights(SwinTransformer(img_size=16, patch_size=4, embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=2, num_classes=3)).eval()
with torch.no_grad():
    pooled = file.forward_features(fill([2, 3, 16, 16], 1).float()).mean((1, 2))

finish(
    "swin_timm",
    {
        "tiny names": list(tiny.state_dict()),
        "tiny feature": feature[::8].clone(),
        "tiny squares": feature.square().sum().item(),
        # 8 x 8 tokens in windows of 4, shifted by 2; then 4 x 4, one window.
        "shifted": small(32),
        # 6 x 6 tokens, filled up to 8 x 8; then 3 x 3, a smaller window.
        "filled": small(24),
        # 7 x 7 tokens, merged to 4 x 4; three stages, the last 2 x 2; no bias of q, k and v.
        "odd": small(28, depths=(2, 1, 1), num_heads=(1, 2, 4), qkv_bias=False),
        "masked": masked(),
        "file": base64.b64encode(save(file.state_dict())).decode(),
        "feature of the file": pooled.double(),
    },
)
