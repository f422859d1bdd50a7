"""Segmentation heads in float64, written from their papers (UPerNet, arXiv 1807.10221; PSPNet, 1612.01105; FCN, 1411.4038) with the names that
mmsegmentation's checkpoints have. Training mode without dropout, so that batch norm takes the batch's statistics; the whole segmenter over a ViT
with its loss as well."""
import torch
from torch import nn
from torch.nn import functional as F

from golden_io import fill, finish
from vit import Vit, describe, set_weights


class Unit(nn.Module):
    def __init__(self, i, o, k):
        super().__init__()
        self.conv = nn.Conv2d(i, o, k, padding=k // 2, bias=False)
        self.bn = nn.BatchNorm2d(o)

    def forward(self, x):
        return self.bn(self.conv(x)).clamp(min=0)


def to(x, like):
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


class Linear(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.bn, self.conv_seg = nn.BatchNorm2d(width), nn.Conv2d(width, classes, 1)

    def forward(self, maps):
        return self.conv_seg(self.bn(maps[-1]))


class Fcn(nn.Module):
    def __init__(self, width, channels, convs, concat, classes, index):
        super().__init__()
        self.convs = nn.ModuleList(Unit(width if i == 0 else channels, channels, 3) for i in range(convs))
        if concat:
            self.conv_cat = Unit(width + channels, channels, 3)
        self.conv_seg = nn.Conv2d(channels, classes, 1)
        self.concat, self.index = concat, index

    def forward(self, maps):
        x = y = maps[self.index]
        for conv in self.convs:
            y = conv(y)
        return self.conv_seg(self.conv_cat(torch.cat([x, y], 1)) if self.concat else y)


class Uper(nn.Module):
    def __init__(self, widths, channels, classes, scales=(1, 2, 3, 6)):
        super().__init__()
        self.psp_modules = nn.ModuleList(nn.Sequential(nn.AdaptiveAvgPool2d(s), Unit(widths[-1], channels, 1)) for s in scales)
        self.bottleneck = Unit(widths[-1] + len(scales) * channels, channels, 3)
        self.lateral_convs = nn.ModuleList(Unit(w, channels, 1) for w in widths[:-1])
        self.fpn_convs = nn.ModuleList(Unit(channels, channels, 3) for _ in widths[:-1])
        self.fpn_bottleneck = Unit(len(widths) * channels, channels, 3)
        self.conv_seg = nn.Conv2d(channels, classes, 1)

    def forward(self, maps):
        top = maps[-1]
        p4 = self.bottleneck(torch.cat([top] + [to(psp(top), top) for psp in self.psp_modules], 1))
        p3 = self.lateral_convs[2](maps[2])
        p3 = p3 + to(p4, p3)
        p2 = self.lateral_convs[1](maps[1])
        p2 = p2 + to(p3, p2)
        p1 = self.lateral_convs[0](maps[0])
        p1 = p1 + to(p2, p1)
        outs = [self.fpn_convs[0](p1)] + [to(x, p1) for x in (self.fpn_convs[1](p2), self.fpn_convs[2](p3), p4)]
        return self.conv_seg(self.fpn_bottleneck(torch.cat(outs, 1)))


def maps_of(widths, sizes):
    return [fill([2, w, *size], 20 + i).requires_grad_() for i, (w, size) in enumerate(zip(widths, sizes))]


def run(head, widths, sizes):
    head = set_weights(head.double())
    maps = maps_of(widths, sizes)
    logits = head(maps)
    (logits * fill(list(logits.shape), 2)).sum().backward()
    return {
        "names": list(head.state_dict()),
        "logits": logits[1, :, :4, :4].clone(),
        "sums": describe(logits),
        "maps": [describe(each.grad) if each.grad is not None else [0.0, 0.0] for each in maps],
        "gradients": {name: describe(each.grad) for name, each in head.named_parameters()},
        "running": {name: describe(each) for name, each in head.state_dict().items() if "running" in name},
    }


class Whole(nn.Module):
    """UPerNet with its auxiliary head over a ViT's pyramid."""

    def __init__(self):
        super().__init__()
        width = 8
        up = lambda: nn.ConvTranspose2d(width, width, kernel_size=2, stride=2)
        self.backbone = nn.Module()
        self.backbone.encoder = Vit((3, 4), width=width, depth=4)
        self.backbone.fpn1 = nn.Sequential(up(), nn.BatchNorm2d(width), nn.GELU(), up())
        self.backbone.fpn2 = nn.Sequential(up())
        self.decode_head = Uper([width] * 4, 6, 5)
        self.auxiliary_head = Fcn(width, 7, 1, False, 5, 2)

    def forward(self, images):
        b = self.backbone
        b.encoder(images)
        rows = images.shape[2] // b.encoder.patch
        m = [x[:, 1:].transpose(1, 2).unflatten(2, (rows, -1)) for x in b.encoder.levels]
        maps = [b.fpn1(m[0]), b.fpn2(m[1]), m[2], F.max_pool2d(m[3], 2, 2)]
        return self.decode_head(maps), self.auxiliary_head(maps)


def pixels_loss(logits, labels, count_ignored):
    """The cross-entropy of one pixel after another that has a class, over the number of those, or of all."""
    big = F.interpolate(logits, size=labels.shape[1:], mode="bilinear", align_corners=False).log_softmax(1)
    valid = labels != 255
    picked = -big.gather(1, torch.where(valid, labels, 0)[:, None])[:, 0]
    return picked[valid].sum() / (valid.numel() if count_ignored else valid.sum())


def whole():
    model = set_weights(Whole().double())
    labels = ((fill([2, 12, 16], 30) + 1) * 2.49).long()
    labels[fill([2, 12, 16], 31) > 0.6] = 255
    decode, auxiliary = model(fill([2, 3, 12, 16], 1))
    main, aux = (pixels_loss(each, labels, False) for each in (decode, auxiliary))
    loss = main + 0.4 * aux
    loss.backward()
    return {
        "labels": labels.flatten().tolist(),
        "main": main.item(),
        "auxiliary": aux.item(),
        "loss": loss.item(),
        "counting ignored": pixels_loss(decode, labels, True).item(),
        "gradients": {name: describe(each.grad) for name, each in model.named_parameters() if each.grad is not None},
    }


finish(
    "segmentation",
    {
        "linear": run(Linear(6, 5), [6], [(3, 4)]),
        "fcn": run(Fcn(6, 4, 2, True, 5, 0), [6], [(5, 4)]),
        "auxiliary": run(Fcn(6, 4, 1, False, 3, 2), [4, 5, 6, 7], [(8, 8), (4, 4), (2, 2), (1, 1)]),
        "upernet": run(Uper([4, 5, 6, 7], 4, 5), [4, 5, 6, 7], [(16, 24), (8, 12), (4, 6), (2, 3)]),
        # Maps as filled-up stages have them: no side is twice the next one.
        "upernet of odd maps": run(Uper([4, 5, 6, 7], 3, 3), [4, 5, 6, 7], [(9, 7), (5, 4), (3, 2), (2, 1)]),
        "whole": whole(),
    },
)
