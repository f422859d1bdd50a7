"""Golden values for RandAugment: timm's operations (which are Pillow's) on pictures by a formula, and timm's arguments by strength.

    python tests/reference/rand_augment.py            # writes goldens/rand_augment.json
    python tests/reference/rand_augment.py --check    # compares with the committed file

Needs timm, torch and pillow. Where negating is a matter of chance, `random.random` is replaced.
"""
import base64
import random

import numpy as np
from PIL import Image

try:
    from timm.data import auto_augment
except RuntimeError:  # a torchvision whose operators do not load: timm only needs their names
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from timm.data import auto_augment

from golden_io import finish

NAMES = {
    "autoContrast": "AutoContrast",
    "equalize": "Equalize",
    "invert": "Invert",
    "rotate": "Rotate",
    "posterize": "Posterize",
    "solarize": "Solarize",
    "solarizeAdd": "SolarizeAdd",
    "color": "Color",
    "contrast": "Contrast",
    "brightness": "Brightness",
    "sharpness": "Sharpness",
    "shearX": "ShearX",
    "shearY": "ShearY",
    "translateX": "TranslateXRel",
    "translateY": "TranslateYRel",
}
INCREASING = {"posterize", "solarize", "color", "contrast", "brightness", "sharpness"}
ARGUMENTS = {
    "rotate": [-27.3, 0.7, 12.5, 30.0],
    "posterize": [0, 1, 3, 8],
    "solarize": [0, 26, 128, 256],
    "solarizeAdd": [0, 99, 110],
    "shearX": [-0.27, 0.031, 0.3],
    "shearY": [-0.27, 0.031, 0.3],
    "translateX": [-0.405, 0.02, 0.3333],
    "translateY": [-0.405, 0.02, 0.3333],
    **{name: [0.1, 0.73, 1.0, 1.81] for name in ("color", "contrast", "brightness", "sharpness")},
}


def picture(width, height, channels, rough, narrow=False):
    """As data_pixels.py; `narrow` has values from 60 to 155 only."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(channels), indexing="ij")
    smooth = (x * 5 + y * 3 + c * 70 + (x * y) // 9) % 511
    smooth = np.where(smooth > 255, 510 - smooth, smooth)
    jumps = (x * 97 + y * 57 + c * 131 + (x * x * 31) // 7 + (y * y * x) % 251) % 256
    array = jumps if rough else smooth
    array = (60 + array * 3 // 8 if narrow else array).astype(np.uint8)
    return Image.fromarray(array if channels == 3 else array[:, :, 0])


def planar(image):
    array = np.asarray(image)
    array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


operations = []
for name, theirs in NAMES.items():
    for channels, rough, size in ((3, True, (19, 13)), (1, False, (24, 24))):
        for argument in ARGUMENTS.get(name, [0]):
            for resample in ("bilinear", "bicubic") if name.startswith(("rot", "shear", "trans")) else ("bicubic",):
                image = picture(*size, channels, rough, narrow=name in ("autoContrast", "equalize"))
                kwargs = dict(
                    fillcolor=(124, 116, 104) if channels == 3 else 116,
                    resample=Image.BILINEAR if resample == "bilinear" else Image.BICUBIC,
                )
                given = [argument] if name in ARGUMENTS else []
                made = auto_augment.NAME_TO_OP[theirs](image, *given, **kwargs)
                operations.append(dict(op=name, argument=argument, resample=resample, channels=channels, rough=rough, size=size, data=planar(made)))
# A picture of one colour leaves nothing to stretch.
flat = Image.new("RGB", (5, 4), (7, 200, 31))
for name in ("AutoContrast", "Equalize"):
    assert auto_augment.NAME_TO_OP[name](flat).tobytes() == flat.tobytes()

levels = {}
for name, theirs in NAMES.items():
    for increasing in (True, False):
        key = theirs + "Increasing" if increasing and name in INCREASING else theirs
        function = auto_augment.LEVEL_TO_ARG[key]
        for negative in (True, False):
            random.random = lambda negative=negative: 0.75 if negative else 0.25
            levels[f"{name} {increasing} {negative}"] = [
                float(function(level, {})[0]) if function else 0.0 for level in (0.0, 0.37, 4.99, 7.5, 9.0, 9.61, 10.0)
            ]

finish("rand_augment", {"operations": operations, "levels": levels})
