"""The encoder and the decoder of DALL-E's discrete VAE (arXiv 2102.12092, section 2.1 and appendix A.1) in float64: values and gradients.

Written as a function of named weights, without modules: what a block is, is said here once and in other words than in src/models/dvae.ts.
"""
import torch
from torch.nn import functional as F

from golden_io import fill, finish
from vit import describe, value_of

torch.set_default_dtype(torch.float64)


class Weights(dict):
    """Weights by name, each made by its formula when it is first asked for."""

    def conv(self, name, x, out, kernel):
        for letter, shape in ("w", (out, x.shape[1], kernel, kernel)), ("b", (out,)):
            if f"{name}.{letter}" not in self:
                self[f"{name}.{letter}"] = value_of(f"{name}.{letter}", shape).requires_grad_()
        return F.conv2d(x, self[f"{name}.w"], self[f"{name}.b"], padding=kernel // 2)


def block(weights, name, x, out, kernels, layers):
    """The residual branch at a quarter of the width; its result is divided by the square of the number of blocks there are in all."""
    shortcut = x if x.shape[1] == out else weights.conv(f"{name}.id_path", x, out, 1)
    for i, kernel in enumerate(kernels):
        x = weights.conv(f"{name}.res_path.conv_{i + 1}", x.clamp(min=0), out if i == 3 else out // 4, kernel)
    return shortcut + x / layers**2


def halve(x):
    """The largest of each 2 x 2."""
    b, c, h, w = x.shape
    return x.reshape(b, c, h // 2, 2, w // 2, 2).amax((3, 5))


def encode(weights, x, width, groups, blocks, vocabulary):
    x = weights.conv("encoder.blocks.input", x, width, 7)
    for g in range(groups):
        for i in range(blocks):
            x = block(weights, f"encoder.blocks.group_{g + 1}.block_{i + 1}", x, width * 2**g, (3, 3, 3, 1), groups * blocks)
        x = x if g == groups - 1 else halve(x)
    return weights.conv("encoder.blocks.output.conv", x.clamp(min=0), vocabulary, 1)


def decode(weights, z, width, groups, blocks, first, channels):
    x = weights.conv("decoder.blocks.input", z, first, 1)
    for g in range(groups):
        out = width * 2 ** (groups - 1 - g)
        for i in range(blocks):
            x = block(weights, f"decoder.blocks.group_{g + 1}.block_{i + 1}", x, out, (1, 3, 3, 3), groups * blocks)
        x = x if g == groups - 1 else x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    return weights.conv("decoder.blocks.output.conv", x.clamp(min=0), 2 * channels, 1)


def run(channels, size, width, decoder_width, groups, blocks, vocabulary, first):
    """An image through the encoder; the softmax of its logits through the decoder; a fixed linear function of both is what is derived."""
    weights = Weights()
    image = (4 * fill([2, channels, *size], 5)).requires_grad_()  # more contrast than images have, so that cells differ in their codes
    logits = encode(weights, 0.8 * image + 0.1, width, groups, blocks, vocabulary)
    output = decode(weights, logits.softmax(1), decoder_width, groups, blocks, first, channels)
    ((logits * fill(logits.shape, 6)).sum() + (output * fill(output.shape, 7)).sum()).backward()
    mapped = torch.sigmoid(output[:, :channels])
    ids = torch.arange(logits[:, 0].numel()).reshape(logits[:, 0].shape) * 7 % vocabulary
    one_hot = F.one_hot(ids, vocabulary).movedim(3, 1).double()
    decoded = torch.sigmoid(decode(weights, one_hot, decoder_width, groups, blocks, first, channels)[:, :channels])
    return {
        "logits": logits,
        "output": output,
        "image": ((mapped - 0.1) / 0.8).clamp(0, 1),
        "codes": logits.argmax(1).tolist(),
        "ids": ids.tolist(),
        "decoded": ((decoded - 0.1) / 0.8).clamp(0, 1),
        "pixels": image.grad,
        "gradients": {name: describe(each.grad) for name, each in weights.items()},
    }


finish("dvae", {"colour": run(3, (8, 12), 8, 12, 3, 2, 10, 6), "grey": run(1, (6, 8), 4, 8, 2, 1, 11, 8)})
