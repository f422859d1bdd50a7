"""A Vision Transformer, DINO's head and MST's decoder written from their formulas for the reference programs, and weights by a rule that
vit-weights.ts repeats. Parameter names are timm's and DINO's, because weights are made by name.

Formulas: arXiv 2010.11929 (ViT), 2103.17239 (layer scale), 2106.08254 (BEiT: bias of q and v only), 2104.14294 (DINO).
"""
import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from golden_io import fill, seed_of


def value_of(name, shape):
    """The weight called `name`: irregular numbers at a scale that trained networks have."""
    count = math.prod(shape)
    i = np.arange(count, dtype=np.int64)
    f = ((i * 7919 + seed_of(name) * 104729 + i * i * 31) % 2003) / 1001.5 - 1
    if name.endswith("running_var"):
        f = np.abs(f) + 0.5
    elif name.endswith("weight_g"):
        f = 1 + 0.2 * f
    elif name.endswith(("gamma", "_token", "pos_embed")):
        f = 0.5 * f
    elif len(shape) == 1:
        f = 0.1 * f + (1 if name.endswith("weight") else 0)
    else:
        f = f * 1.5 / math.sqrt(count / shape[0])
    return torch.from_numpy(f).reshape(shape)


def set_weights(module, prefix=""):
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                tensor.copy_(value_of(prefix + name, tuple(tensor.shape)))
    return module


def digits(number):
    """10 significant digits: more than any comparison asks for."""
    return float(f"{number:.10g}")


def describe(tensor):
    """For what would be large as a whole: its norm, and its product with a fixed vector."""
    return [digits(tensor.norm().item()), digits((tensor * fill(list(tensor.shape), 3)).sum().item())]


class PatchEmbed(nn.Module):
    """Each patch as a row of pixels (channel, row, column) times a matrix."""

    def __init__(self, channels, width, patch):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, patch)  # only to hold the weights
        self.patch = patch

    def forward(self, images):
        p = self.patch
        rows = images.unfold(2, p, p).unfold(3, p, p).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
        return rows @ self.proj.weight.flatten(1).T + self.proj.bias


class Attention(nn.Module):
    def __init__(self, width, heads, qkv_bias, key_bias):
        super().__init__()
        self.heads, self.split = heads, qkv_bias and not key_bias
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias and key_bias)
        if self.split:
            self.q_bias = nn.Parameter(torch.zeros(width))
            self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)
        self.weights = None

    def forward(self, x):
        C = x.shape[-1]
        d = C // self.heads
        wq, wk, wv = self.qkv.weight.split(C)
        bq, bk, bv = (self.q_bias, 0, self.v_bias) if self.split else (0, 0, 0) if self.qkv.bias is None else self.qkv.bias.split(C)
        q, k, v = x @ wq.T + bq, x @ wk.T + bk, x @ wv.T + bv
        outs, maps = [], []
        for h in range(self.heads):
            s = slice(h * d, (h + 1) * d)
            maps.append(torch.softmax(torch.einsum("bid,bjd->bij", q[..., s], k[..., s]) / math.sqrt(d), -1))
            outs.append(torch.einsum("bij,bjd->bid", maps[-1], v[..., s]))
        self.weights = torch.stack(maps, 1)
        return self.proj(torch.cat(outs, -1))


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return self.gamma * x


class Mlp(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x):
        x = self.fc1(x)
        return self.fc2(x * 0.5 * (1 + torch.erf(x / math.sqrt(2))))


class Block(nn.Module):
    def __init__(self, width, heads, mlp_ratio, qkv_bias, key_bias, layer_scale):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads, qkv_bias, key_bias)
        self.ls1 = Scale(width) if layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.ls2 = Scale(width) if layer_scale else nn.Identity()

    def forward(self, x):
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


def resize(positions, old, new, prefix, semantics):
    """Bicubic; `dino` hands the scale factor (n + 0.1) / n0 over, whose sampling grid is another one."""
    if tuple(old) == tuple(new):
        return positions
    grid = positions[:, prefix:].reshape(1, old[0], old[1], -1).permute(0, 3, 1, 2)
    if semantics == "dino":
        grid = F.interpolate(grid, scale_factor=((new[0] + 0.1) / old[0], (new[1] + 0.1) / old[1]), mode="bicubic")
    else:
        grid = F.interpolate(grid, size=tuple(new), mode="bicubic", antialias=semantics == "antialias")
    return torch.cat([positions[:, :prefix], grid.flatten(2).transpose(1, 2)], 1)


class Vit(nn.Module):
    def __init__(self, grid, patch=4, channels=3, width=16, depth=2, heads=2, mlp_ratio=4, class_token=True, fixed=None,
                 qkv_bias=True, key_bias=True, layer_scale=False, semantics="exact"):
        super().__init__()
        self.grid, self.patch, self.prefix, self.semantics = grid, patch, int(class_token), semantics
        if class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        if fixed is None:
            self.pos_embed = nn.Parameter(torch.zeros(1, self.prefix + grid[0] * grid[1], width))
        self.fixed = fixed
        self.patch_embed = PatchEmbed(channels, width, patch)
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio, qkv_bias, key_bias, layer_scale) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.levels = []

    def forward(self, images, mask=None, token=None, subset=None):
        """All tokens after the final norm."""
        new = (images.shape[2] // self.patch, images.shape[3] // self.patch)
        if self.fixed is None:
            positions = resize(self.pos_embed, self.grid, new, self.prefix, self.semantics)
        else:
            positions = torch.cat([torch.zeros(self.prefix, self.fixed.shape[1]), self.fixed])[None]
        x = self.patch_embed(images)
        if mask is not None:
            m = mask.to(x.dtype)[..., None]
            x = (1 - m) * x + m * token
        x = x + positions[:, self.prefix:]
        if subset is not None:
            x = torch.stack([each[rows] for each, rows in zip(x, subset)])
        if self.prefix:
            x = torch.cat([(self.cls_token + positions[:, :1]).repeat(len(x), 1, 1), x], 1)
        self.levels = []
        for block in self.blocks:
            x = block(x)
            self.levels.append(x)
        return self.norm(x)


class DinoHead(nn.Module):
    """Perceptron, L2 normalisation, cosines with K prototypes times their lengths."""

    def __init__(self, width, K, hidden, bottleneck, batch_norm=False):
        super().__init__()
        norm = (lambda: [nn.BatchNorm1d(hidden)]) if batch_norm else list
        layers = [nn.Linear(width, hidden), *norm(), nn.GELU(), nn.Linear(hidden, hidden), *norm(), nn.GELU()]
        self.mlp = nn.Sequential(*layers, nn.Linear(hidden, bottleneck))
        self.last_layer = nn.Module()
        self.last_layer.weight_g = nn.Parameter(torch.ones(K, 1))
        self.last_layer.weight_v = nn.Parameter(torch.zeros(K, bottleneck))

    def forward(self, x):
        x = self.mlp(x)
        x = x / (x * x).sum(-1, keepdim=True).sqrt()
        v = self.last_layer.weight_v
        return x @ (self.last_layer.weight_g * v / (v * v).sum(1, keepdim=True).sqrt()).T


class Decoder(nn.Module):
    """Both forms of the image decoder for a stride of 4 (two factors of 2)."""

    def __init__(self, width, channels, form, wide, narrowest, batch_norm):
        super().__init__()
        self.form = form
        self.stem = nn.Conv2d(width, wide, 1)
        norm = (lambda n: [nn.BatchNorm2d(n)]) if batch_norm else (lambda n: [])
        if form == "sub-pixel":
            self.stages = nn.Sequential(nn.Conv2d(wide, wide, 3, padding=1, bias=not batch_norm), *norm(wide), nn.ReLU())
            self.pixels = nn.Conv2d(wide, channels * 16, 3, padding=1)
        else:
            a, b = max(narrowest, wide // 2), max(narrowest, max(narrowest, wide // 2) // 2)
            up = lambda i, o: [nn.ConvTranspose2d(i, o, 4, 2, 1, bias=not batch_norm), *norm(o), nn.ReLU()]
            self.stages = nn.Sequential(*up(wide, a), *up(a, b))
            self.pixels = nn.Conv2d(b, channels, 3, padding=1)

    def forward(self, patches, grid):
        x = self.pixels(self.stages(self.stem(patches.transpose(1, 2).unflatten(2, grid))))
        if self.form != "sub-pixel":
            return x
        x = x.unflatten(1, (-1, 4, 4)).permute(0, 1, 4, 2, 5, 3)  # [B, c, rows, 4, columns, 4]
        return x.flatten(4, 5).flatten(2, 3)
