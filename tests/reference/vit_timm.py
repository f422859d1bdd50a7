"""timm's ViT-S/16 on weights by formula: names, outputs and gradients in float64; and timm's resizing of positions. Needs timm.

Input fill([1, 3, 224, 224], 1), loss = sum of all tokens after the final norm times fill(shape, 2).
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
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer

from golden_io import fill, finish
from vit import set_weights, value_of

model = timm.create_model("vit_small_patch16_224", pretrained=False, num_classes=0).double()
set_weights(model)
images = fill([1, 3, 224, 224], 1)
tokens = model.forward_features(images)
assert torch.equal(model(images), tokens[:, 0])
(tokens * fill(list(tokens.shape), 2)).sum().backward()


def sample(tensor, count):
    flat = tensor.detach().reshape(-1)
    return flat[:: max(1, flat.numel() // count)][:count].clone()


resampled = {}
for old, new in [((14, 14), (6, 6)), ((4, 4), (3, 5)), ((3, 5), (6, 4))]:
    # float32: timm interpolates in it whatever comes in.
    positions = value_of("pos_embed", (1, 1 + old[0] * old[1], 8)).float()
    for antialias in (False, True):
        out = resample_abs_pos_embed(positions, list(new), list(old), antialias=antialias)
        resampled[f"{old[0]}x{old[1]} to {new[0]}x{new[1]}{', antialias' if antialias else ''}"] = sample(out, 80)

# A whole file of a small model, with its classifier.
small = set_weights(VisionTransformer(img_size=8, patch_size=4, embed_dim=8, depth=2, num_heads=1, num_classes=3))
with torch.no_grad():
    small_tokens = small.forward_features(fill([2, 3, 8, 8], 1).float())

finish(
    "vit_timm",
    {
        "names": list(model.state_dict()),
        "shapes": [list(each.shape) for each in model.state_dict().values()],
        "class token": tokens[0, 0],
        "every 1499th": tokens.reshape(-1)[::1499].clone(),
        "sum": tokens.sum().item(),
        "sum of squares": tokens.square().sum().item(),
        "gradients": {
            name: {"squares": each.grad.square().sum().item(), "some": sample(each.grad, 2)}
            for name, each in model.named_parameters()
        },
        "resampled positions": resampled,
        "file": base64.b64encode(save(small.state_dict())).decode(),
        "tokens of the file": small_tokens.double(),
    },
)
