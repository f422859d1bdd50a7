"""Values and gradients of the layers of src/nn, from torch.nn and, for attention, from the formula of arXiv 1706.03762.

Inputs are fill(shape, 1), each parameter and buffer is fill(shape, seed of its name), the loss is the sum of the outputs times fill(shape, 2).
Everything in float64. Batch norm's running variance is made positive as |v| + 0.5.
"""
import math

import torch
from torch import nn
from torch.nn.utils import weight_norm

from golden_io import fill, finish, seed_of

torch.set_default_dtype(torch.float64)


class Attention(nn.Module):
    """softmax(q k^T / sqrt(d) + mask) v for each head, one head after another, and the output projection."""

    def __init__(self, width, heads, qkv_bias=True, key_bias=True):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias and key_bias)
        self.split = qkv_bias and not key_bias
        if self.split:
            self.q_bias = nn.Parameter(torch.zeros(width))
            self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)
        self.weights = None

    def forward(self, x, mask=None):
        width = x.shape[-1]
        d = width // self.heads
        projected = self.qkv(x)
        q, k, v = projected[..., :width], projected[..., width : 2 * width], projected[..., 2 * width :]
        if self.split:
            q, v = q + self.q_bias, v + self.v_bias
        outs, maps = [], []
        for h in range(self.heads):
            part = slice(h * d, (h + 1) * d)
            scores = torch.einsum("bid,bjd->bij", q[..., part], k[..., part]) / math.sqrt(d)
            if mask is not None:
                scores = scores + mask
            maps.append(scores.softmax(-1))
            outs.append(torch.einsum("bij,bjd->bid", maps[-1], v[..., part]))
        self.weights = torch.stack(maps, 1)
        return self.proj(torch.cat(outs, -1))


class FirstQueries(Attention):
    """What the first two tokens get from all."""

    def forward(self, x):
        out = super().forward(x)[:, :2]
        self.weights = self.weights[:, :, :2]
        return out


class LayerScale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        return x * self.gamma


class Mlp(nn.Module):
    def __init__(self, width, hidden, out):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, x):
        return self.fc2(nn.functional.gelu(self.fc1(x)))


CAUSAL = torch.full((5, 5), float("-inf")).triu(1)

CASES = {
    "linear": (nn.Linear(5, 4), [3, 5]),
    "linear of 3 dimensions": (nn.Linear(5, 4), [2, 3, 5]),
    "linear without bias": (nn.Linear(5, 4, bias=False), [3, 5]),
    "weight norm": (weight_norm(nn.Linear(5, 4, bias=False), dim=0), [3, 5]),
    "layer norm": (nn.LayerNorm(6, eps=1e-6), [2, 3, 6]),
    "layer norm of another eps": (nn.LayerNorm(6, eps=0.1), [4, 6]),
    "layer norm without affine": (nn.LayerNorm(6, eps=1e-6, elementwise_affine=False), [4, 6]),
    "conv": (nn.Conv2d(3, 4, 3), [2, 3, 6, 5]),
    "conv as patches": (nn.Conv2d(3, 5, 4, stride=4), [2, 3, 8, 12]),
    "conv with everything": (nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2, bias=False), [2, 4, 7, 6]),
    "transposed conv": (nn.ConvTranspose2d(3, 4, 2, stride=2), [2, 3, 3, 4]),
    "transposed conv with everything": (nn.ConvTranspose2d(4, 6, 3, stride=(2, 3), padding=1, output_padding=(1, 2), dilation=2, groups=2), [2, 4, 3, 4]),
    "batch norm 1d": (nn.BatchNorm1d(4), [5, 4]),
    "batch norm 1d of 3 dimensions": (nn.BatchNorm1d(4, momentum=0.3), [3, 4, 5]),
    "batch norm 1d without affine": (nn.BatchNorm1d(4, eps=1e-3, affine=False), [5, 4]),
    "batch norm 1d in eval": (nn.BatchNorm1d(4).eval(), [5, 4]),
    "batch norm 2d": (nn.BatchNorm2d(3), [2, 3, 4, 5]),
    "batch norm 2d in eval": (nn.BatchNorm2d(3).eval(), [2, 3, 4, 5]),
    "gelu": (nn.GELU(), [4, 6]),
    "relu": (nn.ReLU(), [4, 6]),
    "attention": (Attention(8, 2), [2, 5, 8]),
    "attention with mask": (Attention(8, 4), [2, 5, 8], CAUSAL),
    "attention without key bias": (Attention(8, 2, key_bias=False), [2, 5, 8]),
    "attention without qkv bias": (Attention(8, 2, qkv_bias=False), [2, 5, 8]),
    "attention of the first tokens": (FirstQueries(8, 2), [2, 5, 8]),
    "attention of the first tokens without key bias": (FirstQueries(8, 2, key_bias=False), [2, 5, 8]),
    "layer scale": (LayerScale(6), [2, 3, 6]),
    "mlp": (Mlp(6, 9, 4), [2, 3, 6]),
    "sequential": (nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.GELU(), nn.Linear(4, 3)), [6, 5]),
}


def run(module, shape, *extra):
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if name.endswith("num_batches_tracked"):
                continue
            values = fill(list(tensor.shape), seed_of(name))
            tensor.copy_(values.abs() + 0.5 if name.endswith("running_var") else values)
    x = fill(shape, 1).requires_grad_()
    output = module(x, *extra)
    (output * fill(list(output.shape), 2)).sum().backward()
    result = {
        "input": shape,
        "output": output,
        "gradient": x.grad,
        "parameters": {name: each.grad for name, each in sorted(module.named_parameters())},
        "buffers": {name: each.double() for name, each in sorted(module.named_buffers())},
    }
    if isinstance(module, Attention):
        result["weights"] = module.weights
    return result


finish("nn_layers", {name: run(*case) for name, case in CASES.items()})
