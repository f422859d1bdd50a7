"""DINO and MST, two optimiser steps each, from arXiv 2104.14294 and 2106.05656 in float64.

The loss is written pair by pair, the centre and the teacher as the papers state them. The optimiser is plain gradient descent with lr 0.5, so
that a gradient's error is not magnified. MST masks every candidate (p = 1), so that nothing is random.
"""
import copy

import numpy as np
import torch
from torch import nn

from golden_io import fill, finish
from vit import Decoder, DinoHead, Vit, describe, set_weights, value_of

torch.set_default_dtype(torch.float64)
K, B, LOCALS = 24, 4, 3
TAU_S, MOMENTUM, CENTER_MOMENTUM, TOTAL, LR = 0.1, 0.9, 0.9, 10, 0.5
# Epoch by epoch: linear over 3 epochs, then constant.
TAU_T = np.concatenate([np.linspace(0.04, 0.07, 3), np.full(7, 0.07)])


DISTANCES = {
    "l1": lambda off: off,
    "l2": lambda off: off**2,
    "smooth-l1": lambda off: torch.where(off < 1, off**2 / 2, off - 0.5),
}


def network(batch_norm):
    net = nn.Module()
    net.backbone = Vit((4, 4))
    net.head = DinoHead(16, K, 20, 12, batch_norm)
    return set_weights(net)


def pairwise(teacher, student):
    """Mean over pairs of different views of E[-sum P_t log P_s]."""
    terms = [
        -(teacher[t] * (student[s] / TAU_S).log_softmax(-1)).sum(-1).mean()
        for t in range(2)
        for s in range(len(student))
        if s != t
    ]
    assert len(terms) == 2 * (len(student) - 1)
    return sum(terms) / len(terms)


def lowest(attention, num):
    """The floor(N / num) patches of lowest attention."""
    count = attention.shape[1] // num
    mask = torch.zeros_like(attention, dtype=torch.bool)
    for row, values in zip(mask, attention):
        row[values.argsort()[:count]] = True
    return mask


def train(batch_norm=False, freeze=1, mst=None, local_crops=LOCALS):
    student = network(batch_norm)
    teacher = copy.deepcopy(student).requires_grad_(False)
    student.head.last_layer.weight_g.requires_grad_(False)
    extra = nn.Module()
    if mst is not None:
        extra.mask_token = nn.Parameter(value_of("mask_token", (16,)))
        if mst.get("decoder"):
            extra.decoder = set_weights(Decoder(16, 3, **mst["decoder"]), "decoder.")
    center = torch.zeros(1, K)
    steps = []
    for step in range(2):
        views = fill([2, B, 3, 16, 16], 10 + step)
        small = fill([local_crops, B, 3, 8, 8], 20 + step) if local_crops else None
        images = views.flatten(0, 1)
        # One epoch a step. The teacher sees the global crops only, and never a mask.
        raw = teacher.head(teacher.backbone(images)[:, 0])
        attention = teacher.backbone.blocks[-1].attn.weights[:, :, 0, 1:].mean(1)
        P = ((raw - center) / TAU_T[step]).softmax(-1).unflatten(0, (2, B))
        mask = lowest(attention, mst["num"]) if mst is not None and mst["num"] else None
        restored = B if mst is not None and mst.get("first") else 2 * B
        if restored == B:
            mask[B:] = False
        tokens = student.backbone(images, mask, getattr(extra, "mask_token", None))
        features = [tokens[:, 0]] + ([student.backbone(small.flatten(0, 1))[:, 0]] if local_crops else [])
        logits = student.head(torch.cat(features)).unflatten(0, (-1, B))
        ce = pairwise(P, logits)
        loss, restore = ce, torch.zeros(())
        if mst is not None:
            loss = mst["lambda1"] * ce
            if mst.get("decoder"):
                off = (extra.decoder(tokens[:restored, 1:], (4, 4)) - images[:restored]).abs()
                off = DISTANCES[mst.get("distance", "l1")](off)
                if mst.get("masked"):
                    # Pixel by pixel: 4 x 4 patches of 4 px.
                    patches = off.unfold(2, 4, 4).unfold(3, 4, 4).mean((1, 4, 5)).flatten(1)
                    restore = patches[mask[:restored]].mean()
                else:
                    restore = off.mean()
                loss = loss + mst["lambda2"] * restore
        parameters = {**{f"student.{n}": p for n, p in student.named_parameters()}, **dict(extra.named_parameters())}
        for each in parameters.values():
            each.grad = None
        loss.backward()
        entropy = -(P * P.clamp(min=1e-12).log()).sum(-1).mean()
        feature = tokens[:, 0] / tokens[:, 0].norm(dim=-1, keepdim=True)
        result = {
            "loss": loss.item(),
            "ce": ce.item(),
            "restore": restore.item(),
            "entropy": entropy.item(),
            "kl": sum(
                (P[t] * (P[t].clamp(min=1e-300).log() - (logits[s] / TAU_S).log_softmax(-1))).sum(-1).mean()
                for t in range(2)
                for s in range(len(logits))
                if s != t
            ).item()
            / (2 * len(logits) - 2),
            "feature std": feature.std(0).mean().item(),
            "attention": attention,
            "mask": None if mask is None else [row.nonzero().flatten().tolist() for row in mask],
            "gradients": {name: describe(each.grad) for name, each in parameters.items() if each.grad is not None},
        }
        with torch.no_grad():
            for name, each in parameters.items():
                if each.grad is not None and not (step < freeze and "last_layer" in name):
                    each -= LR * each.grad
            m = 1 - (1 - MOMENTUM) * (np.cos(np.pi * step / TOTAL) + 1) / 2
            for mine, theirs in zip(teacher.parameters(), student.parameters()):
                mine.mul_(m).add_((1 - m) * theirs)
            center = CENTER_MOMENTUM * center + (1 - CENTER_MOMENTUM) * raw.mean(0, keepdim=True)
        result["center"] = center
        result["teacher"] = {name: describe(each)[1] for name, each in teacher.state_dict().items() if each.is_floating_point()}
        steps.append(result)
    return steps


def head(batch_norm):
    """The head by itself on 5 features."""
    module = set_weights(DinoHead(16, K, 20, 12, batch_norm))
    x = fill([5, 16], 1).requires_grad_()
    y = module(x)
    (y * fill(list(y.shape), 2)).sum().backward()
    return {"logits": y, "gradient": x.grad, "gradients": {name: describe(each.grad) for name, each in module.named_parameters()}}


def decoder(form, batch_norm):
    module = set_weights(Decoder(16, 3, form, 12, 4, batch_norm), "decoder.")
    x = fill([2, 6, 16], 1).requires_grad_()
    y = module(x, (2, 3))
    (y * fill(list(y.shape), 2)).sum().backward()
    return {"image": y[1], "gradient": x.grad, "gradients": {name: describe(each.grad) for name, each in module.named_parameters()}}


def losses():
    """The pairwise loss for several numbers of views, with its gradient for the student's logits."""
    result = {}
    for views in (2, 3, 6, 10):
        student = (3 * fill([views, 3, 7], 1)).requires_grad_()
        P = (10 * fill([2, 3, 7], 2)).softmax(-1)
        loss = pairwise(P, student)
        loss.backward()
        result[str(views)] = {"loss": loss.item(), "gradient": student.grad}
    return result


DECONVOLUTION = dict(form="deconvolution", wide=12, narrowest=4, batch_norm=True)
SUB_PIXEL = dict(form="sub-pixel", wide=12, narrowest=4, batch_norm=False)
finish(
    "dino_mst",
    {
        "head": head(False),
        "head with batch norm": head(True),
        "names of the head": list(DinoHead(16, K, 20, 12).state_dict()),
        "names of the head with batch norm": list(DinoHead(16, K, 20, 12, True).state_dict()),
        "losses": losses(),
        "deconvolution": decoder("deconvolution", True),
        "deconvolution without batch norm": decoder("deconvolution", False),
        "sub-pixel": decoder("sub-pixel", True),
        "dino": train(),
        "dino with batch norm, never frozen": train(batch_norm=True, freeze=0),
        "dino without local crops": train(local_crops=0),
        "mst": train(mst=dict(num=4, lambda1=1.0, lambda2=0.6, decoder=DECONVOLUTION)),
        "mst sub-pixel": train(mst=dict(num=3, lambda1=0.7, lambda2=2.0, decoder=SUB_PIXEL)),
        "mst of masked patches, l2": train(mst=dict(num=4, lambda1=1.0, lambda2=0.6, decoder=SUB_PIXEL, distance="l2", masked=True)),
        "mst of the first view, smooth-l1": train(
            mst=dict(num=4, lambda1=1.0, lambda2=0.6, decoder=SUB_PIXEL, distance="smooth-l1", first=True)
        ),
        "mst without mask": train(mst=dict(num=0, lambda1=1.0, lambda2=0.6, decoder=DECONVOLUTION)),
        "mst without decoder": train(mst=dict(num=4, lambda1=1.0, lambda2=0.6)),
    },
)
