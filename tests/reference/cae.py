"""CAE, one forward and backward pass in float64, from arXiv 2202.03026 (and 2211.09799 for features as target): image by image, the masked and
the visible patches of each by themselves."""
import math

import torch
from torch import nn

from golden_io import fill, finish
from patch_parts import pixels, sin_cos
from vit import Block, Mlp, Scale, Vit, describe, set_weights

torch.set_default_dtype(torch.float64)
B, P, GRID = 3, 4, 4
MASKED = [[0, 1, 2, 5, 6, 9, 14, 15], [3, 4, 7, 8, 10, 11, 12, 13], [1, 3, 5, 7, 8, 10, 12, 14]]
VISIBLE = [[i for i in range(16) if i not in row] for row in MASKED]


class CrossAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, q, k, v):
        q, k, v = self.q(q) + self.q_bias, self.k(k), self.v(v) + self.v_bias
        d = q.shape[-1] // self.heads
        out = [torch.softmax(q[:, s] @ k[:, s].T / math.sqrt(d), -1) @ v[:, s] for s in (slice(h * d, h * d + d) for h in range(self.heads))]
        return self.proj(torch.cat(out, -1))


class RegressorBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1_q, self.norm1_k, self.norm1_v, self.norm2 = (nn.LayerNorm(width, eps=1e-6) for _ in range(4))
        self.cross_attn = CrossAttention(width, heads)
        self.ls1, self.ls2 = Scale(width), Scale(width)
        self.mlp = Mlp(width, 4 * width)

    def forward(self, masked, visible, at_masked, at_visible):
        both = torch.cat([visible, masked])
        keys = self.norm1_k(both + torch.cat([at_visible, at_masked]))
        x = masked + self.ls1(self.cross_attn(self.norm1_q(masked + at_masked), keys, self.norm1_v(both)))
        x = self.norm2(x)
        return x + self.ls2(self.mlp(x))


class Regressor(nn.Module):
    def __init__(self, width, depth, heads, norm):
        super().__init__()
        self.blocks = nn.ModuleList(RegressorBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6) if norm else nn.Identity()


class Decoder(nn.Module):
    def __init__(self, width, depth, heads, out):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, 4, True, False, True) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, out)


class Model(nn.Module):
    def __init__(self, out, width=16, inner=16, depth=2, norm=True):
        super().__init__()
        self.backbone = Vit((GRID, GRID), width=width, fixed=sin_cos(GRID, GRID, width), key_bias=False, layer_scale=True)
        if inner != width:
            self.projection, self.projection_norm = nn.Linear(width, inner), nn.LayerNorm(inner, eps=1e-6)
        self.project = (lambda x: self.projection_norm(self.projection(x))) if inner != width else (lambda x: x)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, inner))
        self.regressor = Regressor(inner, 2, 2, norm)
        self.decoder = Decoder(inner, depth, 2, out)
        self.positions = sin_cos(GRID, GRID, inner)

    def one(self, image, masked, visible, everything):
        """An image's predicted latents, aligned latents and predictions."""
        tokens = self.project(self.backbone(image[None], subset=[visible])[0])
        with torch.no_grad():
            target = self.project(self.backbone(image[None], subset=[masked])[0])[1:]
        at_m, at_v = self.positions[masked], self.positions[visible]
        x = self.mask_token[0].repeat(len(masked), 1)
        for block in self.regressor.blocks:
            x = block(x, tokens[1:], at_m, at_v)
        latents = self.regressor.norm(x)
        y = (latents + at_m)[None] if len(self.decoder.blocks) else latents[None]
        for block in self.decoder.blocks:
            y = block(y)
        y = torch.cat([tokens, y[0]]) if everything else y[0]
        return latents, target, self.decoder.head(self.decoder.norm(y))


def run(kind, weight=2.0, out=P * P * 3, **options):
    model = set_weights(Model(out, **options))
    frozen = set_weights(Vit((2, 2), patch=8, width=12, depth=1), "frozen.") if kind == "features" else None
    images = fill([B, 3, 16, 16], 10)
    each, align = [], []
    for b, image in enumerate(images):
        latents, target, predicted = model.one(image, MASKED[b], VISIBLE[b], kind == "features")
        align.append(((latents - target) ** 2).mean())
        if kind == "tokens":
            ids = (fill([B, 16], 5)[b] * 1000).long() % out
            each += [-predicted[i].log_softmax(-1)[ids[patch]] for i, patch in enumerate(MASKED[b])]
        elif kind == "pixels":
            for i, patch in enumerate(MASKED[b]):
                goal = pixels(image, patch // GRID, patch % GRID)
                variance = ((goal - goal.mean()) ** 2).sum() / (len(goal) - 1)
                each.append(((predicted[i] - (goal - goal.mean()) / (variance + 1e-6).sqrt()) ** 2).mean())
        else:
            # The frozen encoder has patches of 8 px, so it looks at the same crop at 32 px.
            with torch.no_grad():
                goals = frozen(fill([B, 3, 32, 32], 12)[b : b + 1])[0]
            goals = torch.cat([goals[:1], goals[1:][VISIBLE[b]], goals[1:][MASKED[b]]])
            each += [1 - (p / p.norm()) @ (g / g.norm()) for p, g in zip(predicted, goals)]
    loss = sum(each) / len(each)
    total = loss + weight * sum(align) / len(align)
    total.backward()
    return {
        "loss": total.item(),
        "target": loss.item(),
        "align": (sum(align) / len(align)).item(),
        "gradients": {name: describe(p.grad) for name, p in model.named_parameters() if p.grad is not None},
    }


finish(
    "cae",
    {
        "positions": {"16": sin_cos(GRID, GRID, 16), "12": sin_cos(GRID, GRID, 12)},
        "names": list(Model(4, inner=12).state_dict()),
        "pixels": run("pixels"),
        "tokens": run("tokens", out=7),
        "projected": run("pixels", inner=12, weight=0.5),
        "features": run("features", weight=0.0, out=12, depth=0, norm=False),
    },
)
