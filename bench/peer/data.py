"""The data path in PyTorch: JPEG files through torchvision's v2 transforms and a DataLoader of worker processes, to normalised views.

    data.py --folder DIR --views dino|mocov3|mae [--workers N] [--images N] [--batch N] [--decode tensor|pil]

It says so in one line of JSON when it is warm; then each line of standard input is a number of repeats of --images.
"""
import argparse
import importlib.util
import json
import os
import pathlib
import random
import resource
import sys
import time

import torch
from PIL import Image, ImageFilter
from torch.utils.data import DataLoader, Dataset


def load_torchvision():
    """Its transforms need none of its compiled operators, but its import asks for them: where a build for CUDA meets a torch without, they are
    declared, so that it goes on. Returns whether its own JPEG decoder is there."""
    folder = pathlib.Path(importlib.util.find_spec("torchvision").origin).parent
    try:
        torch.ops.load_library(str(folder / "_C.so"))
    except (OSError, RuntimeError):
        library = torch.library.Library("torchvision", "DEF")
        heads = ["roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d"]
        for name in [*heads, *(f"_{head}_backward" for head in heads), "nms", "qnms", "qroi_align"]:
            library.define(f"{name}(Tensor x) -> Tensor")
        globals()["declared"] = library
    try:
        torch.ops.load_library(str(folder / "image.so"))
        return True
    except (OSError, RuntimeError):
        return False


HAS_DECODER = load_torchvision()

from torchvision.io import ImageReadMode, decode_jpeg, read_file  # noqa: E402
from torchvision.transforms import InterpolationMode, v2  # noqa: E402

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class PilBlur:
    """DINO's blur: PIL's, of a random radius."""

    def __call__(self, image):
        return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2)))


def crop_of(size, scale, interpolation, blur, solarize, pil, distort=True):
    steps = [v2.RandomResizedCrop(size, scale=scale, interpolation=interpolation, antialias=True), v2.RandomHorizontalFlip()]
    if distort:
        blurred = PilBlur() if pil else v2.GaussianBlur(13, sigma=(0.1, 2))
        steps += [
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], 0.8),
            v2.RandomGrayscale(0.2),
            v2.RandomApply([blurred], blur),
        ]
        if solarize:
            steps.append(v2.RandomSolarize(128, solarize))
    return v2.Compose([*steps, v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])


def crops_of(views, pil):
    cubic, linear = InterpolationMode.BICUBIC, InterpolationMode.BILINEAR
    if views == "mae":
        return {"image": [crop_of(224, (0.2, 1), cubic, 0, 0, pil, distort=False)]}
    if views == "mocov3":
        return {"global": [crop_of(224, (0.08, 1), linear, 1, 0, pil), crop_of(224, (0.08, 1), linear, 0.1, 0.2, pil)]}
    large = [crop_of(224, (0.4, 1), cubic, 1, 0, pil), crop_of(224, (0.4, 1), cubic, 0.1, 0.2, pil)]
    return {"global": large, "local": [crop_of(96, (0.05, 0.4), cubic, 0.5, 0, pil) for _ in range(8)]}


class Folder(Dataset):
    def __init__(self, folder, views, pil):
        self.files = sorted(os.path.join(folder, name) for name in os.listdir(folder))
        self.crops, self.pil = crops_of(views, pil), pil

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        if self.pil or not HAS_DECODER:
            with open(self.files[index], "rb") as file:
                image = Image.open(file).convert("RGB")
            if not self.pil:
                image = v2.functional.pil_to_tensor(image)
        else:
            image = decode_jpeg(read_file(self.files[index]), mode=ImageReadMode.RGB)
        return {name: torch.stack([crop(image) for crop in crops]) for name, crops in self.crops.items()}


def one_thread(_):
    torch.set_num_threads(1)


def stream_of(folder, views, batch, workers, pil):
    """Batches without end, and the processor seconds of this process and of its workers, which live on."""
    more = {"persistent_workers": True, "prefetch_factor": 2, "worker_init_fn": one_thread} if workers else {}
    loader = DataLoader(Folder(folder, views, pil), batch, shuffle=True, drop_last=True, num_workers=workers, **more)
    children = stream_of.children = []

    def batches():
        while True:
            iterator = iter(loader)
            children[:] = [each.pid for each in getattr(iterator, "_workers", [])]
            yield from iterator

    def busy():
        total, ticks = time.process_time(), os.sysconf("SC_CLK_TCK")
        for pid in children:
            with open(f"/proc/{pid}/stat", encoding="utf8") as file:
                fields = file.read().rsplit(")", 1)[1].split()
            total += (int(fields[11]) + int(fields[12])) / ticks
        return total

    return batches(), busy


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True)
    parser.add_argument("--views", choices=["dino", "mocov3", "mae"], default="dino")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--decode", choices=["tensor", "pil"], default="tensor")
    given = parser.parse_args()
    workers = given.workers
    stream, busy = stream_of(given.folder, given.views, given.batch, workers, given.decode == "pil")
    children = stream_of.children

    # Workers finish at about the same time, so batches come in bursts: a few would be measured as nothing, or as too much.
    count = max(4 * max(1, workers), round(given.images / given.batch))

    def run():
        for _ in range(2 * workers):  # what was prepared while nobody asked
            next(stream)
        start, cpu = time.perf_counter(), busy()
        for _ in range(count):
            next(stream)
        share = given.images / (count * given.batch)
        return share * (time.perf_counter() - start), share * (busy() - cpu)

    run()
    say = lambda value: print(json.dumps(value), flush=True)
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for pid in children:
        with open(f"/proc/{pid}/status", encoding="utf8") as file:
            kib += next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    say({"torch": torch.__version__, "decoder": "torchvision" if HAS_DECODER and given.decode == "tensor" else "PIL", "memory": {"rss": 1024 * kib, "rssBefore": 0}})
    for line in sys.stdin:
        times = [run() for _ in range(int(line))]
        say({"wall": [wall for wall, _ in times], "cpu": [cpu for _, cpu in times]})


if __name__ == "__main__":
    main()
