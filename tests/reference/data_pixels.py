"""Golden values for src/data: resampling, colour changes, greyscale, solarise and blur as Pillow (and torchvision on PIL images) does them.

    python tests/reference/data_pixels.py            # writes tests/reference/goldens/data-pixels.json
    python tests/reference/data_pixels.py --check    # compares with the committed file

Needs pillow and numpy. The test images are made by a formula that the TypeScript test repeats, so only results are stored.
"""
import base64
import json
import math
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

OUT = Path(__file__).parent / "goldens" / "data-pixels.json"


def picture(width, height, channels, rough):
    """Smooth gradients, or (rough) values that jump by up to 255 from pixel to pixel."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(channels), indexing="ij")
    smooth = (x * 5 + y * 3 + c * 70 + (x * y) // 9) % 511
    smooth = np.where(smooth > 255, 510 - smooth, smooth)
    jumps = (x * 97 + y * 57 + c * 131 + (x * x * 31) // 7 + (y * y * x) % 251) % 256
    array = (jumps if rough else smooth).astype(np.uint8)
    return Image.fromarray(array if channels == 3 else array[:, :, 0])


def planar(image):
    array = np.asarray(image)
    array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


FILTERS = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC, "lanczos": Image.LANCZOS}


def resamples():
    cases = []
    for name, method in FILTERS.items():
        for channels, rough in ((1, True), (3, False), (3, True)):
                for size, box, out in [
                    ((37, 29), (0, 0, 37, 29), (16, 20)),  # down, both
                    ((37, 29), (0, 0, 37, 29), (41, 35)),  # up, both
                    ((37, 29), (0, 0, 37, 29), (37, 29)),  # as it is
                    ((37, 29), (3.25, 2.5, 30.75, 27.125), (16, 16)),  # a fractional box of a larger image
                    ((90, 70), (0, 0, 90, 70), (9, 11)),  # far down
                ]:
                    image = picture(*size, channels, rough).resize(out, method, box=box)
                    cases.append(dict(filter=name, channels=channels, rough=rough, size=size, box=box, out=out, crop=False, data=planar(image)))
                # torchvision's resized crop: cut first, so that the filter sees nothing outside of the box.
                box, out = (5, 4, 31, 26), (18, 14)
                image = picture(37, 29, channels, rough).crop(box).resize(out, method)
                cases.append(dict(filter=name, channels=channels, rough=rough, size=(37, 29), box=box, out=out, crop=True, data=planar(image)))
    return cases


def hue(image, factor):
    """torchvision.transforms._functional_pil.adjust_hue."""
    if image.mode == "L":
        return image
    h, s, v = image.convert("HSV").split()
    shifted = np.asarray(h).astype(np.int32) + int(factor * 255)
    return Image.merge("HSV", (Image.fromarray((shifted % 256).astype(np.uint8)), s, v)).convert("RGB")


def colours():
    changes = {
        "brightness": lambda i, f: ImageEnhance.Brightness(i).enhance(f),
        "contrast": lambda i, f: ImageEnhance.Contrast(i).enhance(f),
        "saturation": lambda i, f: ImageEnhance.Color(i).enhance(f),
        "hue": hue,
        "solarize": lambda i, f: ImageOps.solarize(i, f),
    }
    factors = {"hue": [-0.5, -0.1, 0.033, 0.25, 0.5], "solarize": [0, 100, 128, 256]}
    cases = []
    for op, change in changes.items():
        for channels, rough in ((1, True), (3, False), (3, True)):
            for factor in factors.get(op, [0.0, 0.6, 1.0, 1.37, 2.5]):
                image = change(picture(20, 12, channels, rough), factor)
                cases.append(dict(op=op, factor=factor, channels=channels, rough=rough, size=(20, 12), data=planar(image)))
    for rough in (False, True):
        cases.append(dict(op="grayscale", factor=0, channels=3, rough=rough, size=(20, 12), data=planar(picture(20, 12, 3, rough).convert("L").convert("RGB"))))
    return cases


def gauss(image, sigma):
    """A Gaussian cut at three standard deviations, edges repeated, in float64."""
    radius = max(1, math.ceil(3 * sigma))
    k = np.exp(-np.arange(-radius, radius + 1) ** 2 / (2 * sigma * sigma))
    k /= k.sum()
    array = np.asarray(image, dtype=np.float64)
    for axis in (0, 1):
        pad = [(0, 0)] * array.ndim
        pad[axis] = (radius, radius)
        wide = np.pad(array, pad, mode="edge")
        array = sum(w * np.take(wide, range(i, i + array.shape[axis]), axis=axis) for i, w in enumerate(k))
    return Image.fromarray(np.floor(array + 0.5).clip(0, 255).astype(np.uint8))


def blurs():
    cases = []
    for channels in (1, 3):
        for rough in (False, True):
            for sigma in (0.1, 0.5, 1.0, 1.7, 2.0):
                image = picture(20, 12, channels, rough)
                pil = image.filter(ImageFilter.GaussianBlur(sigma))
                cases.append(dict(sigma=sigma, channels=channels, rough=rough, size=(20, 12), data=planar(gauss(image, sigma)), pil=planar(pil)))
    return cases


golden = json.loads(json.dumps(dict(resample=resamples(), colour=colours(), blur=blurs())))
if "--check" in sys.argv:
    if json.loads(OUT.read_text()) != golden:
        sys.exit("the committed golden values differ from what this Pillow computes")
    print("equal")
else:
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    print(OUT, OUT.stat().st_size, "bytes")
