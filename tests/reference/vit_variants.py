"""The ViT's switches in float64, values and gradients, on the independent ViT of vit.py; fixed and resized positions from their papers' formulas.

Input fill([2, 3, H, W], 1), loss = sum of all tokens after the final norm times fill(shape, 2).
"""
import numpy as np
import torch

from golden_io import fill, finish
from vit import Vit, describe, resize, set_weights, value_of

torch.set_default_dtype(torch.float64)


def mae(width, rows, columns):
    """MAE's get_2d_sincos_pos_embed: a mesh of (w, h) by numpy's xy indexing; the first half of the channels takes its first array."""

    def one(dim, at):
        omega = 1.0 / 10000 ** (np.arange(dim // 2, dtype=float) / (dim / 2.0))
        angles = np.einsum("m,d->md", at.reshape(-1), omega)
        return np.concatenate([np.sin(angles), np.cos(angles)], 1)

    grid = np.stack(np.meshgrid(np.arange(columns, dtype=float), np.arange(rows, dtype=float)), 0)
    return torch.from_numpy(np.concatenate([one(width // 2, grid[0]), one(width // 2, grid[1])], 1))


def moco(width, rows, columns):
    """MoCo v3's build_2d_sincos_position_embedding: the mesh is `ij`, so what it calls w runs along the slow axis of the tokens: the rows."""
    w, h = torch.meshgrid(torch.arange(rows, dtype=torch.float64), torch.arange(columns, dtype=torch.float64), indexing="ij")
    n = width // 4
    omega = 1.0 / (10000.0 ** (torch.arange(n, dtype=torch.float64) / n))
    a, b = torch.outer(w.flatten(), omega), torch.outer(h.flatten(), omega)
    return torch.cat([a.sin(), a.cos(), b.sin(), b.cos()], 1)


MASK = torch.tensor([[i in chosen for i in range(15)] for chosen in ({0, 3, 4, 14}, {7, 8})])
SUBSET = torch.tensor([[3, 1, 14, 7], [0, 9, 2, 13]])
CASES = {
    "3x5 patches": dict(grid=(3, 5)),
    "layer scale": dict(grid=(3, 5), layer_scale=True),
    "no key bias, layer scale": dict(grid=(3, 5), key_bias=False, layer_scale=True),
    "no bias of q, k, v": dict(grid=(3, 5), qkv_bias=False),
    "no class token": dict(grid=(3, 5), class_token=False),
    "sin-cos, row first": dict(grid=(3, 5), fixed=moco(16, 3, 5)),
    "sin-cos, column first": dict(grid=(3, 5), fixed=mae(16, 3, 5)),
    "4 heads, narrow mlp, one channel": dict(grid=(3, 5), heads=4, mlp_ratio=2, channels=1),
    "mask tokens": dict(grid=(3, 5), mask=MASK),
    "subset": dict(grid=(3, 5), subset=SUBSET),
    "mask tokens and subset": dict(grid=(3, 5), mask=MASK, subset=SUBSET),
    "positions resized exactly": dict(grid=(4, 4), size=(12, 20)),
    "positions resized as DINO": dict(grid=(4, 4), size=(12, 20), semantics="dino"),
}


def run(size=(12, 20), mask=None, subset=None, **config):
    vit = set_weights(Vit(**config))
    images = fill([2, config.get("channels", 3), *size], 1).requires_grad_()
    token = value_of("mask_token", (16,)).requires_grad_() if mask is not None else None
    tokens = vit(images, mask, token, subset)
    (tokens * fill(list(tokens.shape), 2)).sum().backward()
    return {
        "tokens, sample 1": tokens[1],
        "level 0, class token": vit.levels[0][:, 0],
        "attention, sample 1": vit.blocks[-1].attn.weights[1, :, 0],
        "gradients": {
            name: describe(each)
            for name, each in [*vit.named_parameters(), ("images", images), *([("token", token)] if token is not None else [])]
            for each in [each.grad]
        },
    }


positions = value_of("pos_embed", (1, 1 + 4 * 4, 8))
finish(
    "vit_variants",
    {
        "cases": {name: run(**case) for name, case in CASES.items()},
        "row-column": moco(16, 3, 5),
        "column-row": mae(16, 3, 5),
        "resized": {
            f"{semantics} to {new[0]}x{new[1]}": resize(positions, (4, 4), new, 1, semantics)
            for semantics in ("exact", "dino", "antialias")
            for new in ((2, 2), (3, 5), (6, 6))
        },
    },
)
