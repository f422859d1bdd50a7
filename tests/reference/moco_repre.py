"""MoCo v3 and RePre, two optimiser steps each, from arXiv 2104.02057 (algorithm 1) and 2201.06857 in float64.

The momentum encoder moves before it makes the keys. Each view goes through the heads by itself, because batch statistics belong to a view.
The optimiser is plain gradient descent with lr 0.05. RePre's decoder is this library's own; it is written here from its description.
"""
import copy
import math

import torch
from torch import nn
from torch.nn import functional as F

from golden_io import fill, finish
from patch_parts import sin_cos
from vit import DinoHead, Vit, describe, set_weights

torch.set_default_dtype(torch.float64)
B, T, M0, TOTAL, LR = 4, 0.2, 0.9, 10, 0.05


def perceptron(widths):
    """Linear without bias, batch norm, ReLU; the last batch norm without scale and shift, and no ReLU after it."""
    layers = []
    for i, (a, b) in enumerate(zip(widths, widths[1:])):
        last = i + 2 == len(widths)
        layers += [nn.Linear(a, b, bias=False), nn.BatchNorm1d(b, affine=not last)] + ([] if last else [nn.ReLU()])
    return nn.Sequential(*layers)


class Fusion(nn.Module):
    def __init__(self, up, lateral, fuse, concat):
        super().__init__()
        self.up, self.lateral, self.fuse, self.concat = nn.Sequential(*up), lateral, nn.Sequential(*fuse), concat

    def forward(self, x, level):
        x = self.up(x)
        own = self.lateral(level)
        if own.shape[2:] != x.shape[2:]:
            own = F.interpolate(own, size=x.shape[2:], mode="bilinear", align_corners=False)
        return self.fuse(torch.cat([x, own], 1) if self.concat else x + own)


class FusionDecoder(nn.Module):
    """`ups[i]`: factors taken before the i-th fusion; `rest`: factors after the last one (deconvolution), or the shuffle (sub-pixel)."""

    def __init__(self, levels, channels, ups, rest, form, concat=True, wide=12, narrowest=4, batch_norm=True):
        super().__init__()
        self.strides = [stride for _, stride in levels]
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-6) for width, _ in levels)
        self.stem = nn.Conv2d(levels[-1][0], wide, 1)
        norm = (lambda n: [nn.BatchNorm2d(n)]) if batch_norm else (lambda n: [])
        conv = lambda i, o: [nn.Conv2d(i, o, 3, padding=1, bias=not batch_norm), *norm(o), nn.ReLU()]
        at = wide

        def finer(factor):
            nonlocal at
            to = max(narrowest, math.floor(at / 2 + 0.5)) if form == "deconvolution" else at
            k, p = (4, 1) if factor == 2 else (factor, 0)
            stage = [nn.ConvTranspose2d(at, to, k, factor, p, bias=not batch_norm), *norm(to), nn.ReLU()]
            at = to
            return stage

        fusions = []
        for (width, _), factors in zip(reversed(levels[:-1]), ups):
            up = [layer for factor in factors for layer in finer(factor)]
            fusions.append(Fusion(up, nn.Conv2d(width, at, 1), conv(2 * at if concat else at, at), concat))
        self.fusions = nn.ModuleList(fusions)
        if form == "deconvolution":
            self.stages = nn.Sequential(*[layer for factor in rest for layer in finer(factor)])
            self.pixels, self.shuffle = nn.Conv2d(at, channels, 3, padding=1), 1
        else:
            self.stages = nn.Sequential(*conv(at, at))
            self.pixels, self.shuffle = nn.Conv2d(at, channels * rest**2, 3, padding=1), rest

    def forward(self, levels, size):
        maps = [
            norm(tokens).transpose(1, 2).unflatten(2, (size[0] // stride, size[1] // stride))
            for norm, tokens, stride in zip(self.norms, levels, self.strides)
        ]
        x = self.stem(maps[-1])
        for fusion, level in zip(self.fusions, reversed(maps[:-1])):
            x = fusion(x, level)
        x = self.pixels(self.stages(x))
        r = self.shuffle
        if r == 1:
            return x
        return x.unflatten(1, (-1, r, r)).permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)


class Moco:
    """The framework, as RePre needs it: `contrast` gives the loss, the images and the online encoder's levels for them."""

    def __init__(self):
        self.online = nn.Module()
        self.online.backbone = Vit((4, 4), fixed=sin_cos(4, 4, 16))
        self.online.head = perceptron([16, 20, 20, 12])
        self.momentum = copy.deepcopy(set_weights(self.online)).requires_grad_(False)
        set_weights(self.momentum)
        self.predictor = set_weights(perceptron([12, 20, 12]))
        self.online.backbone.patch_embed.proj.requires_grad_(False)
        self.modules = {"online": self.online, "predictor": self.predictor}

    def contrast(self, step):
        views = fill([2, B, 3, 16, 16], 10 + step)
        m = 1 - (1 - M0) * (1 + math.cos(math.pi * step / TOTAL)) / 2
        with torch.no_grad():
            for mine, theirs in zip(self.momentum.parameters(), self.online.parameters()):
                mine.mul_(m).add_((1 - m) * theirs)
        features, levels = [], []
        for view in views:
            features.append(self.online.backbone(view)[:, 0])
            levels.append(self.online.backbone.levels)
        q = [self.predictor(self.online.head(feature)) for feature in features]
        k = [self.momentum.head(self.momentum.backbone(view)[:, 0]) for view in views]
        loss = sum(self.ctr(q[a], k[b]) for a, b in ((0, 1), (1, 0)))
        return loss, views.flatten(0, 1), [torch.cat(pair) for pair in zip(*levels)]

    @staticmethod
    def ctr(q, k):
        cosine = F.cosine_similarity(q[:, None], k[None], dim=-1) / T
        return 2 * T * sum(-cosine[i].log_softmax(0)[i] for i in range(len(q))) / len(q)

    def finish(self, step):
        pass

    def state(self):
        return {**{f"online.{n}": v for n, v in self.online.state_dict().items()}, **{f"momentum.{n}": v for n, v in self.momentum.state_dict().items()},
                **{f"predictor.{n}": v for n, v in self.predictor.state_dict().items()}}


class Dino:
    """DINO without local crops: temperatures 0.1 and 0.04, centre momentum 0.9, the last layer frozen in the first epoch (one step)."""

    def __init__(self):
        self.student = nn.Module()
        self.student.backbone, self.student.head = Vit((4, 4)), DinoHead(16, 24, 20, 12)
        self.teacher = copy.deepcopy(set_weights(self.student)).requires_grad_(False)
        self.student.head.last_layer.weight_g.requires_grad_(False)
        self.center = torch.zeros(1, 24)
        self.modules = {"": self.student}

    def contrast(self, step):
        views = fill([2, B, 3, 16, 16], 10 + step)
        self.raw = [self.teacher.head(self.teacher.backbone(view)[:, 0]) for view in views]
        P = [((raw - self.center) / 0.04).softmax(-1) for raw in self.raw]
        logits, levels = [], []
        for view in views:
            logits.append(self.student.head(self.student.backbone(view)[:, 0]))
            levels.append(self.student.backbone.levels)
        loss = sum(-(P[a] * (logits[b] / 0.1).log_softmax(-1)).sum(-1).mean() for a, b in ((0, 1), (1, 0))) / 2
        return loss, views.flatten(0, 1), [torch.cat(pair) for pair in zip(*levels)]

    def frozen(self, name, step):
        return step < 1 and "last_layer" in name

    def finish(self, step):
        m = 1 - (1 - M0) * (math.cos(math.pi * step / TOTAL) + 1) / 2
        for mine, theirs in zip(self.teacher.parameters(), self.student.parameters()):
            mine.data.mul_(m).add_((1 - m) * theirs.data)
        self.center = 0.9 * self.center + 0.1 * torch.cat(self.raw).mean(0, keepdim=True)

    def state(self):
        both = {"student": self.student, "teacher": self.teacher}
        return {**{f"{name}.{n}": v for name, each in both.items() for n, v in each.state_dict().items()}, "center": self.center}


def train(framework, decoder=None, weight=1.0, distance=None, levels=(0, 1), first_only=False):
    modules = dict(framework.modules)
    if decoder is not None:
        modules = {f"framework.{name}" if name else "framework": module for name, module in modules.items()}
        modules["decoder"] = set_weights(decoder, "decoder.")
    parameters = {f"{name}.{n}": p for name, module in modules.items() for n, p in module.named_parameters()}
    steps = []
    for step in range(2):
        con, images, tokens = framework.contrast(step)
        rec, loss = torch.zeros(()), con
        if decoder is not None:
            count = B if first_only else 2 * B
            restored = decoder([tokens[level][:count, 1:] for level in levels], (16, 16))
            rec = distance(restored, images[:count])
            loss = con + weight * rec
        for each in parameters.values():
            each.grad = None
        loss.backward()
        result = {"loss": loss.item(), "con": con.item(), "rec": rec.item()}
        result["gradients"] = {name: describe(each.grad) for name, each in parameters.items() if each.grad is not None}
        with torch.no_grad():
            for name, each in parameters.items():
                if each.grad is not None and not (framework.frozen(name, step) if hasattr(framework, "frozen") else False):
                    each -= LR * each.grad
        framework.finish(step)
        state = framework.state()
        result["state"] = {name: describe(each)[1] for name, each in state.items() if each.is_floating_point() and not (framework.__class__ is Moco and "pos_embed" in name)}
        steps.append(result)
    return steps


def alone(levels, size, **options):
    """A decoder by itself: its image, and the gradients of its weights and of the levels."""
    module = set_weights(FusionDecoder(levels, 3, **options), "decoder.")
    tokens = [fill([2, size[0] // stride * (size[1] // stride), width], i + 1).requires_grad_() for i, (width, stride) in enumerate(levels)]
    y = module(tokens, size)
    (y * fill(list(y.shape), 2)).sum().backward()
    return {"image": y[1], "gradients of levels": [t.grad for t in tokens], "gradients": {n: describe(p.grad) for n, p in module.named_parameters()}}


def l1(a, b):
    return (a - b).abs().mean()


def l2(a, b):
    return ((a - b) ** 2).mean()


def smooth(a, b):
    d = (a - b).abs()
    return torch.where(d < 1, 0.5 * d * d, d - 0.5).mean()


FLAT = [(16, 4), (16, 4)]
PYRAMID = [(6, 2), (8, 4), (10, 8)]
finish(
    "moco_repre",
    {
        "positions": sin_cos(4, 4, 16),
        "flat": alone(FLAT, (16, 8), ups=[[2]], rest=[2], form="deconvolution"),
        "flat sum": alone(FLAT, (8, 8), ups=[[]], rest=4, form="sub-pixel", concat=False, batch_norm=False),
        "pyramid": alone(PYRAMID, (16, 24), ups=[[2], [2]], rest=[2], form="deconvolution"),
        "pyramid sub-pixel": alone(PYRAMID, (16, 8), ups=[[2], [2]], rest=2, form="sub-pixel"),
        "moco": train(Moco()),
        "repre over moco": train(Moco(), FusionDecoder(FLAT, 3, [[2]], [2], "deconvolution"), 0.7, l1),
        "repre over moco, last level": train(Moco(), FusionDecoder(FLAT[:1], 3, [], 4, "sub-pixel", batch_norm=False), 1.0, smooth, levels=(1,)),
        "repre over dino": train(Dino(), FusionDecoder(FLAT, 3, [[]], 4, "sub-pixel", concat=False), 2.0, l2, first_only=True),
    },
)
