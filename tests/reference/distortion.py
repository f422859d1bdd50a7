"""Photometric distortion of pixels, one after another, by the standard library's HSV; and PNG files of class numbers by Pillow, whose palettes and
bit depths the reader of masks must take as numbers. Needs Pillow."""
import base64
import colorsys
import io

from PIL import Image

from golden_io import finish


def cut(values, factor, offset):
    return [int(min(255, max(0, v * factor + offset))) for v in values]


def distorted(pixel, brightness, contrast, saturation, hue, contrast_first):
    pixel = cut(pixel, 1, brightness)
    if contrast_first:
        pixel = cut(pixel, contrast, 0)
    if saturation != 1 or hue != 0:
        h, s, v = colorsys.rgb_to_hsv(*(c / 255 for c in pixel))
        pixel = [round(255 * c) for c in colorsys.hsv_to_rgb((h + hue / 360) % 1, min(1, s * saturation), v)]
    if not contrast_first:
        pixel = cut(pixel, contrast, 0)
    return pixel


pixels = [[(i * 37 + c * c * 91 + i * i * 13) % 256 for c in range(3)] for i in range(60)] + [[0, 0, 0], [255, 255, 255], [90, 90, 90], [255, 0, 0], [7, 7, 250]]
changes = [
    (0, 1, 1, 0, True), (31.5, 1, 1, 0, False), (-20.25, 1, 1, 0, False), (0, 1.37, 1, 0, True), (0, 1, 1.5, 0, True), (0, 1, 0.5, 0, False),
    (0, 1, 1, 34, True), (0, 1, 1, -36, False), (12.5, 0.8, 1.3, 20, True), (-12.5, 1.45, 0.6, -20, False),
]  # fmt: skip


def file_of(mode, size, values, **options):
    image = Image.new(mode, size)
    image.putdata(values)
    if mode == "P":
        image.putpalette([(i * 53 + c * 29) % 256 for i in range(256) for c in range(3)])
    stream = io.BytesIO()
    image.save(stream, "PNG", **options)
    return {"mode": mode, "size": list(size), "values": values, "file": base64.b64encode(stream.getvalue()).decode()}


def numbers(count, below):
    return [(i * 7 + i * i * 3 + 1) % below for i in range(count)]


finish(
    "distortion",
    {
        "pixels": pixels,
        "changes": changes,
        "distorted": [[distorted(p, *change) for p in pixels] for change in changes],
        "files": {
            "grey": file_of("L", (13, 9), numbers(117, 256)),
            "grey, every filter": file_of("L", (40, 30), [(x + y) // 3 for y in range(30) for x in range(40)], optimize=True),
            "grey of 16 bits": file_of("I;16", (7, 5), [v * 1000 for v in numbers(35, 60)]),
            "black and white": file_of("1", (11, 4), [255 * v for v in numbers(44, 2)]),
            "palette": file_of("P", (13, 9), numbers(117, 256)),
            "palette of 4 bits": file_of("P", (13, 9), numbers(117, 16), bits=4),
            "palette of 2 bits": file_of("P", (13, 9), numbers(117, 4), bits=2),
            "palette of 1 bit": file_of("P", (13, 9), numbers(117, 2), bits=1),
        },
    },
)
