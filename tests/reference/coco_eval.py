"""COCO's measures by its own tool (pycocotools) on made-up annotations and results: crowds, equal scores, images without objects, categories
without images, more results than count, objects of all sizes, masks of one pixel, annotations that lie in odd order.

For masks the results' boxes are taken away: with boxes the tool takes the boxes' areas for the masks' when it tells small from large.
"""
import contextlib
import copy
import io

from pycocotools import mask as masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from golden_io import finish


class Chance:
    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = self.state * 16807 % 2147483647
        return self.state % n

    def share(self):
        return self.below(10001) / 10000


def blob(chance, x, y, w, h):
    """A polygon of eight corners that nearly fills a box."""
    corners = [(0.3, 0), (0.7, 0), (1, 0.3), (1, 0.7), (0.7, 1), (0.3, 1), (0, 0.7), (0, 0.3)]
    points = []
    for cx, cy in corners:
        points += [round(x + w * cx, 2), round(y + h * cy, 2)]
    return points


def make(seed, images=14, categories=5, per_image=7, step=20):
    """Annotations and results; `step` is into how many values scores are rounded, so that there are ties."""
    chance = Chance(seed)
    sizes = [(60 + chance.below(180), 60 + chance.below(200)) for _ in range(images)]
    ids = [(i * 37 + 11) % 101 for i in range(images)]  # in no order
    names = [{"id": 3 * k + 1, "name": f"kind {k}"} for k in range(categories)]
    annotations, results = [], []
    for i, (height, width) in enumerate(sizes):
        if i % 5 == 4:
            count = 0  # an image without objects, but with results
        else:
            count = 1 + chance.below(per_image)
        for _ in range(count):
            big = chance.below(4)
            w = [3, 20, 60, 150][big] * (0.4 + chance.share()) if big else 3 + 5 * chance.share()
            h = [3, 20, 60, 150][big] * (0.4 + chance.share()) if big else 3 + 5 * chance.share()
            w, h = round(min(w, width - 2), 2), round(min(h, height - 2), 2)
            x, y = round(chance.share() * (width - w), 2), round(chance.share() * (height - h), 2)
            category = names[chance.below(categories - 1)]["id"]  # the last category has no objects
            crowd = int(chance.below(6) == 0)
            shape = [blob(chance, x, y, w, h)]
            rle = masks.merge(masks.frPyObjects(shape, height, width))
            if crowd:
                rle = {"size": [height, width], "counts": rle["counts"].decode()}
                shape = rle
            area = float(masks.area(rle)) if chance.below(3) else round(w * h, 2)
            annotation = {"id": 0, "image_id": ids[i], "category_id": category, "bbox": [x, y, w, h], "area": area, "iscrowd": crowd, "segmentation": shape}
            annotations.append(annotation)
            for _ in range(chance.below(4)):
                spread = 0.25 * chance.share()
                fx, fy = round(x + w * spread * (chance.share() - 0.5), 2), round(y + h * spread * (chance.share() - 0.5), 2)
                fw, fh = round(w * (1 + spread * (chance.share() - 0.5)), 2), round(h * (1 + spread * (chance.share() - 0.5)), 2)
                other = category if chance.below(6) else names[chance.below(categories)]["id"]
                results.append(found(chance, ids[i], other, [fx, fy, fw, fh], height, width, step))
        for _ in range(chance.below(4)):  # where nothing is
            w, h = 2 + 50 * chance.share(), 2 + 50 * chance.share()
            box = [round(each, 2) for each in (chance.share() * (width - w), chance.share() * (height - h), w, h)]
            results.append(found(chance, ids[i], names[chance.below(categories)]["id"], box, height, width, step))
    # One image gets more results of one category than count.
    height, width = sizes[0]
    for _ in range(130):
        w, h = 1 + 4 * chance.share(), 1 + 4 * chance.share()
        box = [round(each, 2) for each in (chance.share() * (width - w), chance.share() * (height - h), w, h)]
        results.append(found(chance, ids[0], names[0]["id"], box, height, width, step))
    # An object of one pixel, found to the pixel; and one whose mask is found by another size of box.
    pixel = {"size": [height, width], "counts": [5, 1, height * width - 6]}
    annotations.append({"id": 0, "image_id": ids[0], "category_id": names[1]["id"], "bbox": [0, 5, 1, 1], "area": 1.0, "iscrowd": 0, "segmentation": pixel})
    packed = masks.frPyObjects(pixel, height, width)["counts"].decode()
    results.append({"image_id": ids[0], "category_id": names[1]["id"], "bbox": [0, 5, 1, 1], "score": 0.5, "segmentation": {"size": [height, width], "counts": packed}})
    order = sorted(range(len(annotations)), key=lambda i: (i * 7919) % 1009)
    annotations = [annotations[i] for i in order]
    for i, annotation in enumerate(annotations):
        annotation["id"] = i + 1
    results = [results[i] for i in sorted(range(len(results)), key=lambda i: (i * 7907) % 1013)]
    truth = {
        "images": [{"id": ids[i], "file_name": f"{i}.png", "height": h, "width": w} for i, (h, w) in enumerate(sizes)],
        "annotations": annotations,
        "categories": names,
    }
    return truth, results


def found(chance, image, category, box, height, width, step):
    x, y, w, h = box
    rle = masks.merge(masks.frPyObjects([blob(chance, x, y, w, h)], height, width))
    score = chance.below(step + 1) / step
    segmentation = {"size": [height, width], "counts": rle["counts"].decode()}
    return {"image_id": image, "category_id": category, "bbox": box, "score": score, "segmentation": segmentation}


NAMES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


def measure(truth, results, kind):
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(truth)
        coco.createIndex()
        own = copy.deepcopy(results)
        if kind == "mask":
            for each in own:
                del each["bbox"]
        judge = COCOeval(coco, coco.loadRes(own) if own else coco_without(coco), "segm" if kind == "mask" else "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    precision, recall = judge.eval["precision"], judge.eval["recall"]
    categories = []
    for k in range(len(judge.params.catIds)):
        mean = lambda values: float(values[values > -1].mean()) if (values > -1).any() else -1.0
        categories.append({
            "AP": mean(precision[:, :, k, 0, 2]), "AP50": mean(precision[0, :, k, 0, 2]), "AP75": mean(precision[5, :, k, 0, 2]),
            "AR100": mean(recall[:, k, 0, 2]),
        })
    return {"scores": {name: float(value) for name, value in zip(NAMES, judge.stats)}, "categories": categories}


def coco_without(coco):
    """No results at all: the tool cannot load an empty list."""
    empty = COCO()
    empty.dataset = {**coco.dataset, "annotations": []}
    empty.createIndex()
    return empty


def case(truth, results):
    return {"truth": truth, "results": results, **{kind: measure(truth, results, kind) for kind in ("box", "mask")}}


if __name__ == "__main__":
    finish("coco_eval", {
        "many ties": case(*make(3, step=8)),
        "few ties": case(*make(8, images=10, categories=4, step=1000)),
        "one category": case(*make(5, images=4, categories=2, per_image=4)),
        "nothing found": case(make(9, images=4, categories=3)[0], []),
    })
