"""Masks as COCO's own library makes them (pycocotools): polygons to run lengths, packed strings, boxes, areas, unions, overlaps.

Thousands of random polygons of several kinds; their packed strings are kept as one digest a kind, and a few as they are.
"""
import hashlib

import numpy as np
from pycocotools import mask as coco

from golden_io import finish


class Chance:
    """The numbers of chance() in coco-masks.test.ts."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = self.state * 16807 % 2147483647
        return self.state % n


def coordinate(chance, kind, side):
    if kind == "hundredths":
        return chance.below(side * 100 + 1) / 100
    if kind == "integers":
        return float(chance.below(side + 1))
    if kind == "tenths":
        return chance.below(side * 10 + 1) / 10
    if kind == "outside":
        return chance.below(side * 300 + 1) / 100 - side
    if kind == "tiny":
        return side / 2 + chance.below(300) / 100
    if kind == "fine":
        return chance.below(2147483646) / 2147483646 * side
    raise ValueError(kind)


def polygon(chance, kind, width, height):
    corners = 3 + chance.below(10)
    points = []
    for i in range(corners):
        if i > 0 and chance.below(8) == 0:
            points += points[-2:]  # a corner twice
        else:
            points += [coordinate(chance, kind, width), coordinate(chance, kind, height)]
    return points


def size_of(chance):
    return 1 + chance.below(60), 1 + chance.below(60)


KINDS = ["hundredths", "integers", "tenths", "outside", "tiny", "fine"]
COUNT = 600


def polygons(kind, seed):
    chance = Chance(seed)
    digest, area, first = hashlib.sha256(), 0, []
    for i in range(COUNT):
        height, width = size_of(chance)
        points = polygon(chance, kind, width, height)
        rle = coco.frPyObjects([points], height, width)[0]
        text = rle["counts"].decode()
        box = [int(each) for each in coco.toBbox(rle)]
        digest.update(f"{height} {width} {text} {coco.area(rle)} {box}\n".encode())
        area += int(coco.area(rle))
        if i < 5:
            first.append({"size": [height, width], "points": points, "counts": text, "area": int(coco.area(rle)), "box": box})
    return {"seed": seed, "count": COUNT, "digest": digest.hexdigest(), "area": area, "first": first}


def unions(seed):
    """Objects of several polygons: union and intersection."""
    chance = Chance(seed)
    digest = hashlib.sha256()
    for _ in range(200):
        height, width = size_of(chance)
        parts = [polygon(chance, "hundredths", width, height) for _ in range(2 + chance.below(3))]
        rles = coco.frPyObjects(parts, height, width)
        union, shared = coco.merge(rles), coco.merge(rles, intersect=True)
        digest.update(f"{union['counts'].decode()} {shared['counts'].decode()}\n".encode())
    return {"seed": seed, "count": 200, "digest": digest.hexdigest()}


def overlaps(seed):
    """Masks and boxes of one image against each other, a third of the truths crowds."""
    chance = Chance(seed)
    cases = []
    for _ in range(12):
        height, width = 20 + chance.below(40), 20 + chance.below(40)
        found = [polygon(chance, "hundredths", width, height) for _ in range(5)]
        truth = [polygon(chance, "hundredths", width, height) for _ in range(4)]
        crowd = [int(chance.below(3) == 0) for _ in truth]
        a, b = coco.frPyObjects(found, height, width), coco.frPyObjects(truth, height, width)
        boxes = [np.stack([coco.toBbox(each) for each in group]) for group in (a, b)]
        cases.append({
            "size": [height, width], "crowd": crowd,
            "masks": coco.iou(a, b, crowd).reshape(-1).tolist(),
            "boxes": coco.iou(boxes[0], boxes[1], crowd).reshape(-1).tolist(),
        })
    return {"seed": seed, "cases": cases}


finish("coco_masks", {
    "polygons": {kind: polygons(kind, 11 + i) for i, kind in enumerate(KINDS)},
    "unions": unions(5),
    "overlaps": overlaps(6),
})
