"""Initial values from a seed, float32: torch's own initialisers and layers, and truncated normals by the inverse of the distribution
function (timm's trunc_normal_, and torch's up to 2.12), with the moments of the exact distribution."""
import math

import torch
from torch import nn

from golden_io import finish


def seeded(make):
    torch.manual_seed(7)
    return make()


def truncated(shape, mean, std, a, b):
    cdf = lambda x: (1 + math.erf((x - mean) / std / math.sqrt(2))) / 2
    uniform = torch.empty(shape).uniform_(2 * cdf(a) - 1, 2 * cdf(b) - 1)
    return (torch.erfinv(uniform) * (std * math.sqrt(2)) + mean).clamp(a, b)


def moments(mean, std, a, b):
    """Mean and variance of a normal cut off at a and b (Johnson, Kotz and Balakrishnan, section 13.10.1)."""
    alpha, beta = (a - mean) / std, (b - mean) / std
    density = lambda x: math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    mass = (math.erf(beta / math.sqrt(2)) - math.erf(alpha / math.sqrt(2))) / 2
    shift = (density(alpha) - density(beta)) / mass
    return {
        "mean": mean + std * shift,
        "variance": std**2 * (1 + (alpha * density(alpha) - beta * density(beta)) / mass - shift**2),
    }


NORMALS = [(0.0, 0.02, -2.0, 2.0), (0.0, 1.0, -2.0, 2.0), (0.5, 1.0, -1.0, 1.0), (0.0, 1.0, 3.5, 5.0), (1.0, 0.1, 0.95, 1.3)]


def layer(make):
    return seeded(lambda: {name: each for name, each in make().named_parameters()})


finish(
    "nn_init",
    {
        "truncated": [
            {
                "mean": mean,
                "std": std,
                "a": a,
                "b": b,
                "values": seeded(lambda: truncated([40], mean, std, a, b)),
                "moments": moments(mean, std, a, b),
            }
            for mean, std, a, b in NORMALS
        ],
        "xavier": seeded(lambda: nn.init.xavier_uniform_(torch.empty(6, 4))),
        "xavier with gain": seeded(lambda: nn.init.xavier_uniform_(torch.empty(4, 3, 2, 2), gain=2.0)),
        "normal": seeded(lambda: nn.init.normal_(torch.empty(5, 4), 1.0, 0.3)),
        "kaiming": seeded(lambda: nn.init.kaiming_uniform_(torch.empty(4, 3, 2, 2), a=math.sqrt(5))),
        "linear": layer(lambda: nn.Linear(5, 4)),
        "conv": layer(lambda: nn.Conv2d(4, 6, (3, 2), groups=2)),
        "transposed conv": layer(lambda: nn.ConvTranspose2d(4, 6, 3, groups=2)),
        "sequential": layer(lambda: nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2))),
    },
)
