"""The parts of Mask R-CNN and the whole of it, by torchvision: box coder, anchors, matcher, level mapper, pasting of masks, losses, gradients and detections.
Its two compiled operators are written out here, slowly, from their description (He et al. 2017, section 3); where torchvision's load, they must agree."""
import torch
from torch import nn

try:
    import torchvision
except RuntimeError:  # a torchvision whose operators do not load: their names are enough
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision
from torchvision.extension import _has_ops
from torchvision.models.detection import _utils, roi_heads, rpn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign, boxes as box_ops, poolers
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from golden_io import fill, finish
from vit import describe, set_weights


def sample(image, y, x):
    """Bilinear values of an image [C, H, W] at all pairs of y and x; its edge goes on for one pixel, then there is 0."""

    def neighbours(at, size):
        inside = (at >= -1) & (at <= size)
        at = at.clamp(min=0)
        low = at.floor().long()
        edge = low >= size - 1
        low = torch.where(edge, size - 1, low)
        high = torch.where(edge, size - 1, low + 1)
        share = torch.where(edge, torch.zeros_like(at), at - low)
        return low, high, (1 - share) * inside, share * inside

    top, bottom, wt, wb = neighbours(y, image.shape[1])
    left, right, wl, wr = neighbours(x, image.shape[2])
    rows = image[:, top] * wt[:, None] + image[:, bottom] * wb[:, None]
    return rows[:, :, left] * wl + rows[:, :, right] * wr


def plain_roi_align(maps, rois, size, scale=1.0, sampling=-1, aligned=False):
    if isinstance(size, tuple):
        size = size[0]
    out = []
    for roi in rois:
        box = roi[1:] * scale - (0.5 if aligned else 0.0)
        extent = box[2:] - box[:2]
        if not aligned:
            extent = extent.clamp(min=1)
        points = []
        for start, length in ((box[1], extent[1]), (box[0], extent[0])):
            step = length / size
            count = sampling if sampling > 0 else int(torch.ceil(step))
            inner = (torch.arange(count, dtype=rois.dtype) + 0.5) * step / max(count, 1)
            points.append((start + torch.arange(size, dtype=rois.dtype)[:, None] * step + inner).reshape(-1))
        y, x = points
        values = sample(maps[int(roi[0])], y, x)
        if len(y) == 0 or len(x) == 0:
            out.append(torch.zeros(maps.shape[1], size, size, dtype=maps.dtype))
        else:
            out.append(values.unflatten(2, (size, -1)).unflatten(1, (size, -1)).mean((2, 4)))
    result = torch.stack(out) if out else maps.new_zeros(0, maps.shape[1], size, size)
    if _has_ops():
        compiled = torch.ops.torchvision.roi_align(maps, rois.to(maps), scale, size, size, sampling, aligned)
        assert torch.allclose(result.to(compiled), compiled, atol=1e-5), (result - compiled).abs().max()
    return result


def plain_nms(boxes, scores, threshold):
    boxes = boxes.detach().float()
    order = torch.sort(scores.detach(), descending=True, stable=True).indices.tolist()
    kept = []
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for i in order:
        if kept:
            others = boxes[kept]
            size = (torch.minimum(boxes[i, 2:], others[:, 2:]) - torch.maximum(boxes[i, :2], others[:, :2])).clamp(min=0)
            shared = size[:, 0] * size[:, 1]
            if ((shared / (areas[kept] + areas[i] - shared)).double() > threshold).any():
                continue
        kept.append(i)
    if _has_ops():
        assert torch.ops.torchvision.nms(boxes, scores.detach().float(), threshold).tolist() == kept
    return torch.tensor(kept, dtype=torch.int64)


def plain_batched_nms(boxes, scores, groups, threshold):
    keep = torch.zeros(len(boxes), dtype=torch.bool)
    for group in groups.unique():
        members = torch.where(groups == group)[0]
        keep[members[plain_nms(boxes[members], scores[members], threshold)]] = True
    rows = torch.where(keep)[0]
    return rows[torch.sort(scores[rows], descending=True, stable=True).indices]


roi_heads.roi_align = plain_roi_align
poolers.roi_align = lambda maps, rois, output_size, spatial_scale, sampling_ratio: plain_roi_align(
    maps, rois, output_size, spatial_scale, sampling_ratio
)
box_ops.batched_nms = plain_batched_nms
# Labels come in float32, in which the loss would then be taken.
with_logits = nn.functional.binary_cross_entropy_with_logits
nn.functional.binary_cross_entropy_with_logits = lambda logits, labels: with_logits(logits, labels.to(logits.dtype))


def boxes_of(count, seed, height, width, dtype=torch.float64):
    """Boxes inside and across the edges of an image."""
    value = (fill([count, 4], seed) + 1) / 2
    x, y = value[:, 0] * width * 0.9, value[:, 1] * height * 0.9
    w, h = value[:, 2] ** 2 * width * 0.7 + 2, value[:, 3] ** 2 * height * 0.7 + 2
    return torch.stack([x - 3, y - 3, x + w, y + h], 1).to(dtype)


def parts():
    a, b = boxes_of(6, 1, 60, 80), boxes_of(6, 2, 60, 80)
    coder = _utils.BoxCoder((10.0, 10.0, 5.0, 5.0))
    codes = fill([6, 8], 3) * 12
    quality = box_ops.box_iou(a, boxes_of(40, 4, 60, 80))
    generator = AnchorGenerator(((8,), (20,)), ((0.5, 1.0, 2.0),) * 2)
    anchors = generator(ImageList(torch.zeros(1, 3, 24, 40), [(24, 40)]), [torch.zeros(1, 1, 6, 10), torch.zeros(1, 1, 3, 5)])[0]
    single = boxes_of(30, 5, 300, 700, torch.float32)
    mapper = poolers.initLevelMapper(2, 5)
    scores = (fill([60], 6) * 4).round().div(4).float()
    crowded = boxes_of(60, 7, 40, 40, torch.float32).round()
    pasted = roi_heads.paste_masks_in_image((fill([5, 1, 6, 6], 8).float() + 1) / 2, boxes_of(5, 9, 30, 40, torch.float32), (30, 40))
    return {
        "encoded": coder.encode_single(a, b),
        "decoded": coder.decode_single(codes, a),
        "iou": quality,
        "matched": _utils.Matcher(0.5, 0.3, allow_low_quality_matches=False)(quality).tolist(),
        "matched low": _utils.Matcher(0.7, 0.3, allow_low_quality_matches=True)(quality).tolist(),
        "anchors": anchors,
        "levels": mapper([single]).tolist(),
        "nms": {str(t): plain_nms(crowded, scores, t).tolist() for t in (0.1, 0.3, 0.5, 0.7)},
        "nms of groups": plain_batched_nms(crowded, scores, torch.arange(60) % 3, 0.3).tolist(),
        "pasted": (pasted[:, 0] > 0.5).double(),
    }


def aligning():
    cases = {}
    for name, sampling, aligned in (("two", 2, False), ("two aligned", 2, True), ("adaptive", -1, False), ("adaptive aligned", 0, True)):
        maps = fill([2, 3, 7, 9], 1).requires_grad_()
        # Inside, across each edge, far outside, smaller than a cell, larger than the map.
        boxes = torch.tensor(
            [[0, 3.2, 2.1, 20.7, 17.9], [1, -9, -7, 12, 11], [1, 20, 15, 60, 50], [0, 90, 80, 120, 99], [0, 8.1, 8.2, 8.3, 8.9], [1, -30, -30, 90, 80]],
            dtype=torch.float64,
        )
        out = plain_roi_align(maps, boxes, 4, 0.25, sampling, aligned)
        (out * fill(list(out.shape), 2)).sum().backward()
        cases[name] = {"values": out, "gradient": maps.grad}
    return cases


class Body(nn.Module):
    def __init__(self):
        super().__init__()
        self.levels = nn.ModuleList(nn.Conv2d(*each) for each in ((3, 4, 4, 4), (4, 6, 2, 2), (6, 6, 2, 2), (6, 8, 2, 2)))

    def forward(self, x):
        out = {}
        for i, level in enumerate(self.levels):
            x = level(x).tanh()
            out[str(i)] = x
        return out


class Backbone(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.body = Body()
        self.fpn = FeaturePyramidNetwork([4, 6, 6, 8], channels, LastLevelMaxPool())

    def forward(self, x):
        return self.fpn(self.body(x))


class Detector(nn.Module):
    def __init__(self, classes, channels):
        super().__init__()
        self.backbone = Backbone(channels)
        anchors = AnchorGenerator(tuple((8 * stride,) for stride in (4, 8, 16, 32, 64)), ((0.5, 1.0, 2.0),) * 5)
        limits = {"training": 60, "testing": 40}, {"training": 50, "testing": 30}
        self.rpn = rpn.RegionProposalNetwork(anchors, rpn.RPNHead(channels, 3), 0.7, 0.3, 10**6, 0.5, *limits, 0.7)
        names = ["0", "1", "2", "3"]
        self.roi_heads = roi_heads.RoIHeads(
            MultiScaleRoIAlign(names, 3, 2), TwoMLPHead(channels * 9, 12), FastRCNNPredictor(12, classes + 1), 0.5, 0.5, 10**6, 0.25, None,
            0.05, 0.5, 20, MultiScaleRoIAlign(names, 4, 2), MaskRCNNHeads(channels, (6, 6), 1), MaskRCNNPredictor(6, 6, classes + 1),
        )  # fmt: skip

    def forward(self, images, sizes, targets=None):
        images = ImageList(images, sizes)
        maps = self.backbone(images.tensors)
        proposals, first = self.rpn(images, maps, targets)
        found, second = self.roi_heads(maps, proposals, sizes, targets)
        return found, {**first, **second}


def masks_of(boxes, height, width):
    """Ellipses."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    return ((((x - middle[:, 0, None, None]) / half[:, 0, None, None]) ** 2 + ((y - middle[:, 1, None, None]) / half[:, 1, None, None]) ** 2) <= 1).to(torch.uint8)


def whole(sizes, counts):
    model = set_weights(Detector(3, 5).double())
    images = torch.zeros(2, 3, 96, 128, dtype=torch.float64)
    targets = []
    for i, ((height, width), count) in enumerate(zip(sizes, counts)):
        images[i, :, :height, :width] = fill([3, height, width], 1 + i)
        boxes = box_ops.clip_boxes_to_image(boxes_of(count, 20 + i, height, width), (height, width))
        targets.append({"boxes": boxes, "labels": torch.arange(count) % 3 + 1, "masks": masks_of(boxes, height, width)})
    _, losses = model.train()(images, sizes, targets)
    sum(losses.values()).backward()
    gradients = {name: describe(each.grad) for name, each in model.named_parameters() if each.grad is not None}
    with torch.no_grad():
        found, _ = model.eval()(images, sizes)
    return {
        "losses": {name: each.item() for name, each in losses.items()},
        "gradients": gradients,
        "targets": [{"boxes": each["boxes"]} for each in targets],
        "found": [
            {"boxes": each["boxes"], "scores": each["scores"], "labels": (each["labels"] - 1).tolist(), "masks": each["masks"][:, 0, ::3, ::3]}
            for each in found
        ],
    }


if __name__ == "__main__":
    finish(
        "detection",
        {
            "parts": parts(),
            "aligning": aligning(),
            "whole": whole([(96, 120), (80, 128)], [3, 2]),
            "an image without objects": whole([(96, 128), (64, 100)], [2, 0]),
            "no object at all": whole([(96, 128), (64, 100)], [0, 0]),
        },
    )
