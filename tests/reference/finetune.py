"""Golden values for fine-tuning: timm's Mixup, RandomErasing and losses with their draws given, and small timm classifiers trained for a few steps
by MAE's, DeiT's and Swin's groups. Needs timm.

Weights are by formula, images fill([4, 3, 16, 16], 1), labels 0, 3, 1, 3.
"""
import json
import math
import random

import numpy as np
import torch
from torch.nn import functional as F

try:
    import timm  # noqa: F401
except RuntimeError:  # a torchvision whose operators do not load: timm only needs their names
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from timm.data.mixup import Mixup
from timm.data.random_erasing import RandomErasing
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer

from golden_io import fill, finish
from vit import set_weights

CLASSES = 5
labels = torch.tensor([0, 3, 1, 3])


# ---- mixing


def mixed(lam, cut, centre, size, smoothing):
    """timm's Mixup where numpy draws what is given."""
    draws = iter([0.0, 0.0 if cut else 0.9])
    integers = iter(centre)
    saved = np.random.rand, np.random.beta, np.random.randint
    np.random.rand = lambda *_: next(draws)
    np.random.beta = lambda *_, **__: lam
    np.random.randint = lambda *_, **__: np.int64(next(integers))
    try:
        mixup = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, switch_prob=0.5, label_smoothing=smoothing, num_classes=CLASSES)
        images, targets = mixup(fill([4, 3, *size], 1).float(), labels)
    finally:
        np.random.rand, np.random.beta, np.random.randint = saved
    return dict(lam=lam, cut=cut, centre=centre, size=size, smoothing=smoothing, images=images.float(), targets=targets.double())


mixes = [
    mixed(0.7, False, [0, 0], (6, 5), 0.1),
    mixed(0.25, False, [0, 0], (4, 4), 0.0),
    mixed(0.6, True, [3, 2], (6, 5), 0.1),
    mixed(0.3, True, [0, 6], (5, 7), 0.1),
    mixed(0.02, True, [4, 0], (5, 7), 0.0),
    mixed(0.999, True, [2, 2], (5, 5), 0.1),
]


# ---- erasing


def erased(uniforms, size, probability):
    """The box that timm's RandomErasing takes where `random` gives these numbers, one after another."""
    numbers = iter(uniforms)
    saved = random.random, random.uniform, random.randint
    random.random = lambda: next(numbers)
    random.uniform = lambda a, b: a + (b - a) * next(numbers)
    random.randint = lambda a, b: a + int(next(numbers) * (b - a + 1))
    try:
        image = torch.zeros(1, *size)
        RandomErasing(probability=probability, mode="pixel", device="cpu")(image)
    finally:
        random.random, random.uniform, random.randint = saved
    inside = (image[0] != 0).nonzero()
    box = None
    if len(inside) > 0:
        (top, left), (bottom, right) = inside.min(0).values.tolist(), inside.max(0).values.tolist()
        box = [top, left, bottom - top + 1, right - left + 1]
    return dict(uniforms=uniforms, size=size, probability=probability, box=box)


torch.manual_seed(0)
erasings = [
    erased([0.1, 0.5, 0.5, 0.3, 0.7], (32, 32), 0.25),
    erased([0.3, 0.5, 0.5, 0.3, 0.7], (32, 32), 0.25),
    erased([0.2, 0.9, 0.1, 0.99, 0.0], (24, 40), 0.25),
    erased([0.2, 0.99, 0.99, 0.95, 0.01, 0.4, 0.6, 0.5, 0.5], (10, 12), 0.5),  # the first box is too high
]

# ---- losses

scores = fill([4, CLASSES], 3).requires_grad_()
soft = SoftTargetCrossEntropy()(scores, mixes[0]["targets"])
losses = {"soft": soft, "soft gradient": torch.autograd.grad(soft, scores)[0]}
smooth = LabelSmoothingCrossEntropy(0.1)(scores, labels)
losses |= {"smooth": smooth, "smooth gradient": torch.autograd.grad(smooth, scores)[0]}


# ---- training


def layer_of_vit(name, depth):
    """MAE's util/lr_decay.py, in its own words."""
    if name in ("cls_token", "pos_embed") or name.startswith("patch_embed"):
        return 0
    return int(name.split(".")[1]) + 1 if name.startswith("blocks") else depth + 1


def layer_of_swin(name, depths):
    """Counted as in Swin's own names, where merging ends a stage; timm's begin the next with it."""
    if name.startswith("patch_embed"):
        return 0
    if not name.startswith("layers"):
        return sum(depths) + 1
    parts = name.split(".")
    stage = int(parts[1])
    return sum(depths[:stage]) + (0 if parts[2] == "downsample" else int(parts[3]) + 1)


def groups_of(model, layer_of, last, decay, weight_decay):
    groups = []
    for name, parameter in model.named_parameters():
        still = parameter.ndim == 1 or name in ("cls_token", "pos_embed") or name.endswith("relative_position_bias_table")
        scale = decay ** (last - layer_of(name))
        groups.append(dict(params=[parameter], weight_decay=0.0 if still else weight_decay, scale=scale))
    return groups


def trained(model, layer_of, last, decay, base):
    set_weights(model.double())
    images, targets = fill([4, 3, 16, 16], 1), mixes[0]["targets"]
    groups = groups_of(model, layer_of, last, decay, 0.05)
    optimizer = torch.optim.AdamW(groups, lr=base)
    steps, warm, least = 4, 1, 1e-6
    losses = []
    for step in range(steps):
        lr = base * step / warm if step < warm else least + (base - least) * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))
        for group in optimizer.param_groups:
            group["lr"] = lr * group["scale"]
        loss = torch.sum(-targets * F.log_softmax(model(images), dim=-1), dim=-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    state = model.state_dict()
    kept = {name: each for name, each in state.items() if name.startswith(("head", "fc_norm", "norm", "patch_embed.proj.bias"))}
    kept |= {name: each.reshape(-1)[::7].clone() for name, each in state.items() if "mlp.fc1.weight" in name or "reduction" in name}
    model.eval()
    return dict(names=list(state), layerDecay=decay, lr=base, losses=losses, weights=kept, scores=model(images))


vit = dict(img_size=16, patch_size=4, embed_dim=16, depth=3, num_heads=2, num_classes=CLASSES)
depths = (2, 2)
training = {
    "mean of a ViT": trained(
        VisionTransformer(**vit, global_pool="avg"), lambda name: layer_of_vit(name, 3), 4, 0.65, 0.01
    ),
    "class token of a ViT": trained(VisionTransformer(**vit), lambda name: layer_of_vit(name, 3), 4, 1.0, 0.005),
    "Swin": trained(
        SwinTransformer(img_size=16, patch_size=2, embed_dim=8, depths=depths, num_heads=(2, 4), window_size=4, num_classes=CLASSES, drop_path_rate=0.0),
        lambda name: layer_of_swin(name, depths),
        sum(depths) + 1,
        0.8,
        0.01,
    ),
}
for each in training.values():
    json.dumps(each["losses"])

finish("finetune", {"mixes": mixes, "erasings": erasings, "losses": losses, "training": training})
