"""A Vision Transformer in PyTorch, as timm has it, with what the seven methods ask of it."""
import math

import torch
import torch.nn.functional as F
from torch import nn

ATTENTION = {"kind": "explicit"}
"""How attention is computed, everywhere: `explicit` or `sdpa`."""


def attend(q, k, v, mask=None, want_weights=False):
    if ATTENTION["kind"] == "sdpa" and not want_weights:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask.to(q.dtype)), None
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    weights = (scores if mask is None else scores + mask).softmax(-1)
    return weights @ v, weights


class Attention(nn.Module):
    def __init__(self, width, heads, key_bias=True):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=key_bias)
        if not key_bias:
            self.q_bias = nn.Parameter(torch.zeros(width))
            self.v_bias = nn.Parameter(torch.zeros(width))
        self.key_bias = key_bias
        self.proj = nn.Linear(width, width)

    def forward(self, x, mask=None, queries=None, want_weights=False):
        b, n, c = x.shape
        bias = self.qkv.bias if self.key_bias else torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        split = lambda t, m, parts: t.view(b, m, parts, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        if queries is None:
            q, k, v = split(F.linear(x, self.qkv.weight, bias), n, 3)
            m = n
        else:
            m = queries
            (q,) = split(F.linear(x[:, :m], self.qkv.weight[:c], bias[:c]), m, 1)
            k, v = split(F.linear(x, self.qkv.weight[c:], bias[c:]), n, 2)
        out, weights = attend(q, k, v, mask, want_weights)
        out = self.proj(out.transpose(1, 2).reshape(b, m, c))
        return (out, weights) if want_weights else out


class CrossAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, queries, keys, values, mask=None):
        split = lambda t: t.view(t.shape[0], t.shape[1], self.heads, -1).transpose(1, 2)
        q = split(F.linear(queries, self.q.weight, self.q_bias))
        k = split(self.k(keys))
        v = split(F.linear(values, self.v.weight, self.v_bias))
        out, _ = attend(q, k, v, mask)
        return self.proj(out.transpose(1, 2).reshape(queries.shape))


class Mlp(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class DropPath(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        if self.p == 0 or not self.training:
            return x
        keep = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(1 - self.p).div_(1 - self.p)
        return x * keep


class LayerScale(nn.Module):
    def __init__(self, width, start):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), float(start)))

    def forward(self, x):
        return x * self.gamma


class Block(nn.Module):
    def __init__(self, width, heads, mlp_ratio=4, drop_path=0.0, layer_scale=None, key_bias=True):
        super().__init__()
        scale = lambda: nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)
        self.norm1, self.attn, self.ls1 = nn.LayerNorm(width, 1e-6), Attention(width, heads, key_bias), scale()
        self.norm2, self.mlp, self.ls2 = nn.LayerNorm(width, 1e-6), Mlp(width, int(width * mlp_ratio)), scale()
        self.drop_path = DropPath(drop_path)

    def forward(self, x, mask=None, queries=None, want_weights=False):
        attended = self.attn(self.norm1(x), mask, queries, want_weights)
        attended, weights = attended if want_weights else (attended, None)
        x = (x if queries is None else x[:, :queries]) + self.drop_path(self.ls1(attended))
        x = x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))
        return (x, weights) if want_weights else x


def sin_cos(side, width):
    omega = 1.0 / 10000 ** (torch.arange(width // 4) / (width / 4))
    at = torch.arange(side).float()[:, None] * omega
    rows, columns = at[:, None].expand(side, side, -1), at[None].expand(side, side, -1)
    return torch.cat([f(t) for t in (rows, columns) for f in (torch.sin, torch.cos)], -1).reshape(1, side * side, width)


def gather(x, index):
    """Rows of [B, N, C], or of [1, N, C] for all images, by their numbers [B, n]: whole rows, which `gather` would copy number by number."""
    flat = index if len(x) == 1 else index + torch.arange(len(index), device=index.device)[:, None] * x.shape[1]
    return x.flatten(0, 1).index_select(0, flat.flatten()).view(*index.shape, -1)


class Vit(nn.Module):
    def __init__(self, model, channels=3, drop_path=True, lean=False):
        super().__init__()
        size, patch, width, depth = model["imageSize"], model["patchSize"], model["width"], model["depth"]
        self.side, self.patch, self.width, self.depth, self.lean = size // patch, patch, width, depth, lean
        self.prefix = int(model.get("classToken", True))
        self.patch_embed = nn.Conv2d(channels, width, patch, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width)) if self.prefix else None
        if model.get("positions", "learned") == "learned":
            self.pos_embed = nn.Parameter(torch.randn(1, self.prefix + self.side**2, width) * 0.02)
        else:
            positions = torch.cat([torch.zeros(1, self.prefix, width), sin_cos(self.side, width)], 1)
            self.register_buffer("pos_embed", positions)
        rate = (model.get("dropPath") or 0) if drop_path else 0
        self.blocks = nn.ModuleList(
            Block(
                width,
                model["heads"],
                model.get("mlpRatio", 4),
                rate * i / max(1, depth - 1),
                model.get("layerScale"),
                model.get("keyBias", True),
            )
            for i in range(depth)
        )
        self.norm = nn.LayerNorm(width, 1e-6)

    def positions(self, side):
        if side == self.side:
            return self.pos_embed
        grid = self.pos_embed[:, self.prefix :].reshape(1, self.side, self.side, -1).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
        return torch.cat([self.pos_embed[:, : self.prefix], grid.flatten(2).transpose(1, 2)], 1)

    def embed_patches(self, images, token_mask=None):
        x = self.patch_embed(images).flatten(2).transpose(1, 2)
        if token_mask is not None:
            where, token = token_mask
            x = torch.where(where[..., None], token.to(x.dtype), x)
        return x + self.positions(images.shape[-1] // self.patch)[:, self.prefix :]

    def embed_subset(self, images, subset):
        """Patches that are seen, by a linear layer of their pixels: no convolution of the others."""
        b, c, h, w = images.shape
        p, positions = self.patch, self.positions(w // self.patch)[:, self.prefix :]
        pixels = images.reshape(b, c, h // p, p, w // p, p).permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * p * p)
        x = F.linear(gather(pixels, subset), self.patch_embed.weight.flatten(1), self.patch_embed.bias)
        return x + gather(positions, subset)

    def forward(
        self, images, token_mask=None, subset=None, mask=None, levels=(), attention=False, class_only=False, embedded=None
    ):
        """Tokens after the norm, the outputs of the wanted levels, and the class token's attention in the last block."""
        if subset is not None and self.lean:
            x = self.embed_subset(images, subset)
        else:
            x = self.embed_patches(images, token_mask) if embedded is None else embedded
            x = x if subset is None else gather(x, subset)
        if self.prefix:
            x = torch.cat([(self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1), x], 1)
        outputs, weights = [], None
        for i, block in enumerate(self.blocks):
            last = i + 1 == self.depth
            queries = 1 if last and class_only and i not in levels else None
            if last and attention:
                x, weights = block(x, mask, queries, True)
                weights = weights[:, :, 0]
            else:
                x = block(x, mask, queries)
            if i in levels:
                outputs.append(x)
        return self.norm(x[:, :1] if class_only else x), outputs, weights
