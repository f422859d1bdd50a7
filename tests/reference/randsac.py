"""RandSAC, one forward and backward pass in float64, from arXiv 2203.12054, sections 3 and 4: image by image, with tokens that are really dropped,
so that segments may have any sizes."""
import torch
from torch import nn

from golden_io import fill, finish
from patch_parts import pixels, sin_cos
from vit import Mlp, Vit, describe, set_weights

torch.set_default_dtype(torch.float64)
B, P, GRID, WIDTH = 3, 4, 4, 16
# The place of each patch's segment. The first image has segments of equal size, like squares; the others are ragged, the third has three.
EQUAL = [
    [2, 2, 0, 0, 2, 2, 0, 0, 1, 1, 3, 3, 1, 1, 3, 3],
    [0, 0, 3, 3, 0, 0, 3, 3, 2, 2, 1, 1, 2, 2, 1, 1],
    [1, 3, 0, 2, 2, 0, 3, 1, 0, 1, 2, 3, 3, 2, 1, 0],
]
RAGGED = [
    [2, 2, 0, 0, 2, 2, 2, 0, 1, 1, 3, 3, 1, 1, 1, 3],
    [0, 1, 1, 1, 0, 0, 4, 4, 4, 2, 2, 3, 3, 3, 3, 3],
    [1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2],
]


class CrossWeights(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)


class Layer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width, eps=1e-6) for _ in range(3))
        self.attn = nn.Module()
        self.attn.qkv, self.attn.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.cross_attn = CrossWeights(width)
        self.mlp = Mlp(width, 4 * width)
        self.heads = heads

    def forward(self, x, memory, own, seen):
        """own[i], seen[i]: which queries and which of the memory query i may look at."""
        h = self.norm1(x)
        q, k, v = self.attn.qkv(h).chunk(3, -1)
        x = x + self.attn.proj(attend(q, k, v, own, self.heads))
        h = self.norm2(x)
        c = self.cross_attn
        x = x + c.proj(attend(c.q(h) + c.q_bias, c.k(memory), c.v(memory) + c.v_bias, seen, self.heads))
        return x + self.mlp(self.norm3(x))


def attend(q, k, v, allowed, heads):
    """Each query over the keys that it may look at, and no others."""
    d = q.shape[-1] // heads
    rows = []
    for i, keys in enumerate(allowed):
        parts = [torch.softmax(q[i, s] @ k[keys][:, s].T / d**0.5, -1) @ v[keys][:, s] for s in (slice(h * d, h * d + d) for h in range(heads))]
        rows.append(torch.cat(parts))
    return torch.stack(rows)


class Decoder(nn.Module):
    def __init__(self, width, depth, heads, out, layers, norm, query):
        super().__init__()
        if query:
            self.query_token = nn.Parameter(torch.zeros(1, 1, width))
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(depth))
        if layers:
            self.skip_weights = nn.Parameter(torch.zeros(depth, layers))
        self.skip_norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-6) for _ in range(depth if norm else 0))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, out)


def run(ranks, skips, norm=True, normalize=True, query=False, depth=2):
    encoder = set_weights(Vit((GRID, GRID), width=WIDTH, fixed=sin_cos(GRID, GRID, WIDTH), class_token=False), "backbone.")
    decoder = set_weights(Decoder(WIDTH, depth, 2, P * P * 3, 2 if skips else 0, skips and norm, query), "decoder.")
    positions = sin_cos(GRID, GRID, WIDTH)
    images = fill([B, 3, 16, 16], 10)
    losses, predictions = [], []
    for image, rank in zip(images, ranks):
        last = max(rank)
        seen = [i for i in range(16) if rank[i] < last]
        wanted = [i for i in range(16) if rank[i] > 0]
        x = (encoder.patch_embed(image[None])[0] + positions)[seen]
        layers = []
        for block in encoder.blocks:
            allowed = [[j for j, b in enumerate(seen) if rank[b] <= rank[a]] for a in seen]
            q, k, v = block.attn.qkv(block.norm1(x)).chunk(3, -1)
            x = x + block.attn.proj(attend(q, k, v, allowed, 2))
            x = x + block.mlp(block.norm2(x))
            layers.append(x)
        y = positions[wanted] + (decoder.query_token[0] if query else 0)
        own = [[j for j, b in enumerate(wanted) if rank[b] <= rank[a]] for a in wanted]
        before = [[j for j, b in enumerate(seen) if rank[b] < rank[a]] for a in wanted]
        for l, layer in enumerate(decoder.layers):
            if skips:
                memory = sum(decoder.skip_weights[l, k] * each for k, each in enumerate(layers))
                memory = decoder.skip_norms[l](memory) if norm else memory
            else:
                memory = encoder.norm(layers[-1])
            y = layer(y, memory, own, before)
        y = decoder.head(decoder.norm(y))
        for prediction, patch in zip(y, wanted):
            goal = pixels(image, patch // GRID, patch % GRID)
            if normalize:
                variance = ((goal - goal.mean()) ** 2).sum() / (len(goal) - 1)
                goal = (goal - goal.mean()) / (variance + 1e-6).sqrt()
            losses.append(((prediction - goal) ** 2).mean())
        predictions.append(y.norm().item())
    loss = sum(losses) / len(losses)
    loss.backward()
    named = {**{f"backbone.{n}": p for n, p in encoder.named_parameters()}, **{f"decoder.{n}": p for n, p in decoder.named_parameters()}}
    return {"loss": loss.item(), "predictions": predictions, "gradients": {n: describe(p.grad) for n, p in named.items() if p.grad is not None}}


finish(
    "randsac",
    {
        "positions": sin_cos(GRID, GRID, WIDTH),
        "equal ranks": EQUAL,
        "ragged ranks": RAGGED,
        "equal": run(EQUAL, skips=True),
        "equal without skips": run(EQUAL, skips=False, normalize=False),
        "ragged": run(RAGGED, skips=True, norm=False, query=True),
        "ragged without skips": run(RAGGED, skips=False, depth=1),
    },
)
