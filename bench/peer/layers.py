"""Heads and decoders of the seven methods in PyTorch."""
import torch
import torch.nn.functional as F
from torch import nn
from vit import Attention, Block, CrossAttention, DropPath, LayerScale, Mlp, gather, sin_cos


class DinoHead(nn.Module):
    def __init__(self, width, outFeatures, hidden, bottleneck, layers, batchNorm, normLastLayer):
        super().__init__()
        widths = [width] + [hidden] * (layers - 1) + [bottleneck]
        parts = []
        for i in range(layers):
            parts.append(nn.Linear(widths[i], widths[i + 1]))
            if i + 1 < layers:
                parts += ([nn.BatchNorm1d(hidden)] if batchNorm else []) + [nn.GELU()]
        self.mlp = nn.Sequential(*parts)
        self.last_layer = nn.utils.parametrizations.weight_norm(nn.Linear(bottleneck, outFeatures, bias=False))
        length = self.last_layer.parametrizations.weight.original0
        length.data.fill_(1)
        length.requires_grad_(not normLastLayer)

    def forward(self, x):
        return self.last_layer(F.normalize(self.mlp(x), dim=-1))


def moco_head(width, hidden, out, layers):
    parts = []
    for i in range(layers):
        last = i + 1 == layers
        to = out if last else hidden
        parts += [nn.Linear(width if i == 0 else hidden, to, bias=False), nn.BatchNorm1d(to, affine=not last)]
        if not last:
            parts.append(nn.ReLU(inplace=True))
    return nn.Sequential(*parts)


def factors_of(n):
    found, p = [], 2
    while n > 1:
        while n % p == 0:
            found.append(p)
            n //= p
        p += 1
    return found


def stage(convolution, out, norm):
    return [convolution] + ([nn.BatchNorm2d(out)] if norm else []) + [nn.ReLU(inplace=True)]


def conv_stage(a, b, norm):
    return stage(nn.Conv2d(a, b, 3, padding=1, bias=not norm), b, norm)


def up_stage(a, b, factor, norm):
    kernel, padding = (4, 1) if factor == 2 else (factor, 0)
    return stage(nn.ConvTranspose2d(a, b, kernel, factor, padding, bias=not norm), b, norm)


class ImageDecoder(nn.Module):
    def __init__(self, width, stride, form, start, narrowest, norm):
        super().__init__()
        self.stem = nn.Conv2d(width, start, 1)
        if form == "sub-pixel":
            self.stages = nn.Sequential(*conv_stage(start, start, norm))
            self.pixels = nn.Sequential(nn.Conv2d(start, 3 * stride**2, 3, padding=1), nn.PixelShuffle(stride))
            return
        parts, at = [], start
        for factor in factors_of(stride):
            to = max(narrowest, round(at / 2))
            parts += up_stage(at, to, factor, norm)
            at = to
        self.stages = nn.Sequential(*parts)
        self.pixels = nn.Conv2d(at, 3, 3, padding=1)

    def forward(self, patches, side):
        return self.pixels(self.stages(self.stem(patches.transpose(1, 2).reshape(len(patches), -1, side, side))))


class FusionDecoder(nn.Module):
    def __init__(self, width, stride, levels, fusion, form, start, narrowest, norm):
        super().__init__()
        self.concat, self.sub_pixel = fusion == "concat", form == "sub-pixel"
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(levels))
        self.stem = nn.Conv2d(width, start, 1)
        factors, at = factors_of(stride), start
        self.ups, self.laterals, self.fuses = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for _ in range(levels - 1):
            up = []
            if not self.sub_pixel and factors:
                to = max(narrowest, round(at / 2))
                up = up_stage(at, to, factors.pop(0), norm)
                at = to
            self.ups.append(nn.Sequential(*up))
            self.laterals.append(nn.Conv2d(width, at, 1))
            self.fuses.append(nn.Sequential(*conv_stage(2 * at if self.concat else at, at, norm)))
        if self.sub_pixel:
            self.stages = nn.Sequential(*conv_stage(at, at, norm))
            self.pixels = nn.Sequential(nn.Conv2d(at, 3 * stride**2, 3, padding=1), nn.PixelShuffle(stride))
            return
        rest = []
        for factor in factors:
            to = max(narrowest, round(at / 2))
            rest += up_stage(at, to, factor, norm)
            at = to
        self.stages = nn.Sequential(*rest)
        self.pixels = nn.Conv2d(at, 3, 3, padding=1)

    def forward(self, levels, side):
        maps = [n(t).transpose(1, 2).reshape(len(t), -1, side, side) for n, t in zip(self.norms, levels)]
        x = self.stem(maps[-1])
        for up, lateral, fuse, level in zip(self.ups, self.laterals, self.fuses, reversed(maps[:-1])):
            x, own = up(x), lateral(level)
            if own.shape[-1] != x.shape[-1]:
                own = F.interpolate(own, size=x.shape[-2:], mode="bilinear", align_corners=False)
            x = fuse(torch.cat([x, own], 1) if self.concat else x + own)
        return self.pixels(self.stages(x))


class MaeDecoder(nn.Module):
    def __init__(self, width_in, out, side, prefix, width, depth, heads):
        super().__init__()
        self.prefix = prefix
        self.embed, self.mask_token = nn.Linear(width_in, width), nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("positions", torch.cat([torch.zeros(1, prefix, width), sin_cos(side, width)], 1))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm, self.pred = nn.LayerNorm(width, 1e-6), nn.Linear(width, out)

    def forward(self, tokens, visible, masked, lean):
        x, p = self.embed(tokens), self.prefix
        if lean:
            # Masked patches, which alone have a loss, come first, so that the last block ends with them.
            at = lambda patches: gather(self.positions[:, p:], patches)
            seen = x + torch.cat([self.positions[:, :p].expand(len(x), -1, -1), at(visible)], 1)
            x = torch.cat([at(masked) + self.mask_token, seen], 1)
            for i, block in enumerate(self.blocks):
                x = block(x, queries=masked.shape[1] if i + 1 == len(self.blocks) else None)
            return self.pred(self.norm(x))
        hidden = self.mask_token.to(x.dtype).expand(len(x), masked.shape[1], -1)
        places = torch.cat([visible, masked], 1).argsort(1)
        x = torch.cat([x[:, :p], gather(torch.cat([x[:, p:], hidden], 1), places)], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return gather(self.pred(self.norm(x))[:, p:], masked)


class RegressorBlock(nn.Module):
    def __init__(self, width, heads, layer_scale, drop_path):
        super().__init__()
        self.norm1_q, self.norm1_k, self.norm1_v, self.norm2 = (nn.LayerNorm(width, 1e-6) for _ in range(4))
        self.cross_attn, self.mlp = CrossAttention(width, heads), Mlp(width, 4 * width)
        self.ls1, self.ls2, self.drop_path = LayerScale(width, layer_scale), LayerScale(width, layer_scale), DropPath(drop_path)

    def forward(self, masked, positions, visible, visible_at):
        at = masked + positions
        keys, values = self.norm1_k(torch.cat([visible_at, at], 1)), self.norm1_v(torch.cat([visible, masked], 1))
        x = self.norm2(masked + self.drop_path(self.ls1(self.cross_attn(self.norm1_q(at), keys, values))))
        return x + self.drop_path(self.ls2(self.mlp(x)))


class Regressor(nn.Module):
    def __init__(self, width, depth, heads, layer_scale, drop_path, norm):
        super().__init__()
        rates = [drop_path * i / max(1, depth - 1) for i in range(depth)]
        self.blocks = nn.ModuleList(RegressorBlock(width, heads, layer_scale, rate) for rate in rates)
        self.norm = nn.LayerNorm(width, 1e-6) if norm else nn.Identity()

    def forward(self, queries, visible, masked_at, visible_at):
        keys_at, x = visible + visible_at, queries
        for block in self.blocks:
            x = block(x, masked_at, visible, keys_at)
        return self.norm(x)


class CaeDecoder(nn.Module):
    def __init__(self, width, out, depth, heads, layer_scale, drop_path):
        super().__init__()
        rates = [drop_path * i / max(1, depth - 1) for i in range(depth)]
        self.blocks = nn.ModuleList(Block(width, heads, 4, rate, layer_scale, key_bias=False) for rate in rates)
        self.norm, self.head = nn.LayerNorm(width, 1e-6), nn.Linear(width, out)

    def forward(self, latents, positions):
        x = latents + positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class SegmentLayer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width, 1e-6) for _ in range(3))
        self.attn, self.cross_attn, self.mlp = Attention(width, heads), CrossAttention(width, heads), Mlp(width, 4 * width)

    def forward(self, x, memory, mask):
        x = x + self.attn(self.norm1(x), mask)
        x = x + self.cross_attn(self.norm2(x), memory, memory, mask)
        return x + self.mlp(self.norm3(x))


class SegmentDecoder(nn.Module):
    def __init__(self, width, depth, heads, out, encoder_depth):
        super().__init__()
        self.layers = nn.ModuleList(SegmentLayer(width, heads) for _ in range(depth))
        self.skip_weights = nn.Parameter(torch.zeros(depth, encoder_depth).index_fill_(1, torch.tensor([encoder_depth - 1]), 1))
        self.skip_norms = nn.ModuleList(nn.LayerNorm(width, 1e-6) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width, 1e-6), nn.Linear(width, out)

    def forward(self, x, levels, mask):
        stacked = torch.stack(levels)
        mixed = (self.skip_weights.to(stacked.dtype) @ stacked.flatten(1)).view(-1, *stacked.shape[1:])
        for layer, norm, memory in zip(self.layers, self.skip_norms, mixed):
            x = layer(x, norm(memory), mask)
        return self.head(self.norm(x))
