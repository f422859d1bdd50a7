"""A ViT whose blocks attend inside windows but for a few (arXiv 2203.16527, section 3), window by window. A class token is in every window and gets the
mean of its outcomes; windows at the edge are filled up with zeros after the norm."""
import torch

from golden_io import fill, finish
from vit import Vit, describe, set_weights


class Windowed(Vit):
    def windows(self, block, x, rows, columns, size):
        normed, p = block.norm1(x), self.prefix
        grid = normed[:, p:].unflatten(1, (rows, columns))
        height, width = min(size, rows), min(size, columns)
        out, tokens = torch.zeros_like(grid), []
        for top in range(0, rows, height):
            for left in range(0, columns, width):
                part = grid[:, top : top + height, left : left + width]
                h, w = part.shape[1:3]
                whole = torch.zeros(len(x), height, width, x.shape[2], dtype=x.dtype)
                whole[:, :h, :w] = part
                result = block.attn(torch.cat([normed[:, :p], whole.flatten(1, 2)], 1))
                out[:, top : top + h, left : left + w] = result[:, p:].unflatten(1, (height, width))[:, :h, :w]
                tokens.append(result[:, :p])
        attended = torch.cat([torch.stack(tokens).mean(0), out.flatten(1, 2)], 1)
        x = x + block.ls1(attended)
        return x + block.ls2(block.mlp(block.norm2(x)))

    def forward(self, images, size, everywhere):
        grid = images.shape[2] // self.patch, images.shape[3] // self.patch
        for i, block in enumerate(self.blocks):
            if i not in everywhere:
                block.forward = lambda x, block=block: self.windows(block, x, *grid, size)
        tokens = super().forward(images)
        return tokens


def run(size, window, everywhere, **config):
    model = set_weights(Windowed((4, 4), depth=4, **config).double())
    tokens = model(fill([2, 3, *size], 1), window, everywhere)
    (tokens * fill(list(tokens.shape), 2)).sum().backward()
    return {
        "tokens": tokens[1, :4, :6].clone(),
        "sums": describe(tokens),
        "gradients": {name: describe(each.grad) for name, each in model.named_parameters()},
    }


finish(
    "vit_windows",
    {
        "windows that do not divide the grid": run((20, 28), 3, (1, 3)),
        "no class token": run((20, 28), 3, (1, 3), class_token=False),
        "windows larger than one side": run((12, 32), 5, (3,)),
    },
)
