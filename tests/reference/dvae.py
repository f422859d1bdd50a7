"""The discrete VAE of DALL-E and one training step of it in float64, from arXiv 2102.12092 (section 2.1, appendix A) and the names and
shapes of its released weights. Convolutions are matrix products over windows; pooling and upsampling are written out. The third term of
the loss (use of the codes) is this library's own and written from its description.
"""
import math

import torch

from golden_io import fill, finish
from vit import describe, digits, value_of

torch.set_default_dtype(torch.float64)


def convolution(x, w, b):
    """Stride 1, zeros around the image so that its size stays."""
    out, _, k, _ = w.shape
    p = (k - 1) // 2
    n, c, height, width = x.shape
    padded = torch.zeros(n, c, height + 2 * p, width + 2 * p)
    padded[:, :, p : p + height, p : p + width] = x
    windows = padded.unfold(2, k, 1).unfold(3, k, 1)  # n, c, height, width, k, k
    flat = windows.permute(0, 2, 3, 1, 4, 5).reshape(n * height * width, c * k * k)
    return (flat @ w.reshape(out, -1).T + b).reshape(n, height, width, out).permute(0, 3, 1, 2)


def half(x):
    return torch.stack([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]).amax(0)


def double(x):
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


class Dvae:
    """Weights are made when they are first asked for; `weights` has them by name."""

    def __init__(self, channels, width, decoder_width, groups, blocks, vocabulary, init):
        self.channels, self.groups, self.blocks, self.vocabulary, self.init = channels, groups, blocks, vocabulary, init
        self.widths = [width * 2**g for g in range(groups)]
        self.decoder_widths = [decoder_width * 2**g for g in reversed(range(groups))]
        self.weights = {}

    def layer(self, name, x, out, k):
        for suffix, shape in ((".w", (out, x.shape[1], k, k)), (".b", (out,))):
            if name + suffix not in self.weights:
                self.weights[name + suffix] = value_of(name + suffix, shape).requires_grad_()
        return convolution(x, self.weights[name + ".w"], self.weights[name + ".b"])

    def block(self, name, x, out, kernels):
        inner = x
        for i, k in enumerate(kernels):
            inner = self.layer(f"{name}.res_path.conv_{i + 1}", inner.clamp(min=0), out if i == 3 else out // 4, k)
        identity = x if x.shape[1] == out else self.layer(f"{name}.id_path", x, out, 1)
        return identity + inner / (self.groups * self.blocks) ** 2

    def encoder(self, mapped):
        x = self.layer("encoder.blocks.input", mapped, self.widths[0], 7)
        for g, width in enumerate(self.widths):
            for i in range(self.blocks):
                x = self.block(f"encoder.blocks.group_{g + 1}.block_{i + 1}", x, width, (3, 3, 3, 1))
            if g + 1 < self.groups:
                x = half(x)
        return self.layer("encoder.blocks.output.conv", x.clamp(min=0), self.vocabulary, 1)

    def decoder(self, codes):
        x = self.layer("decoder.blocks.input", codes, self.init, 1)
        for g, width in enumerate(self.decoder_widths):
            for i in range(self.blocks):
                x = self.block(f"decoder.blocks.group_{g + 1}.block_{i + 1}", x, width, (1, 3, 3, 3))
            if g + 1 < self.groups:
                x = double(x)
        return self.layer("decoder.blocks.output.conv", x.clamp(min=0), 2 * self.channels, 1)

    def gradients(self):
        return {name: describe(each.grad) for name, each in sorted(self.weights.items())}


def one_hot(index, vocabulary):
    return torch.stack([(index == v).double() for v in range(vocabulary)], 1)


def image_of(output, channels):
    return ((1 / (1 + torch.exp(-output[:, :channels])) - 0.1) / 0.8).clamp(0, 1)


SIZES = {
    "colour, three groups of two": (3, 8, 12, 3, 2, 7, 6),
    "grey, two groups of one": (1, 12, 8, 2, 1, 5, 10),
    "one group": (3, 8, 4, 1, 1, 6, 3),
}


def pixels(channels, seed):
    return (fill([2, channels, 8, 12], seed) + 1) / 2


def network(sizes):
    dvae = Dvae(*sizes)
    images = pixels(sizes[0], 4).requires_grad_()
    logits = dvae.encoder(0.8 * images + 0.1)
    # A sample between codes, and one that is sure.
    soft = torch.softmax(fill(list(logits.shape), 5) * 3, 1).requires_grad_()
    output = dvae.decoder(soft)
    (logits * fill(list(logits.shape), 6)).sum().add((output * fill(list(output.shape), 7)).sum()).backward()
    # Cells a little apart in every code: which one is the largest does not hang on rounding.
    ids = logits.argmax(1)
    best = logits.topk(2, 1).values
    assert (best[:, 0] - best[:, 1]).min() > 1e-6
    return {
        "logits": logits,
        "output": output,
        "ids": ids.tolist(),
        "decoded": image_of(dvae.decoder(one_hot(ids, sizes[5])), sizes[0]),
        "gradients": {**dvae.gradients(), "images": describe(images.grad), "codes": describe(soft.grad)},
    }


def cosine(start, end, share):
    return end + (start - end) * (1 + math.cos(math.pi * min(1, share))) / 2


AT, TOTAL, LR, KEPT = 3, 10, 0.05, 0.9
STEPS = {
    "logit-laplace": dict(rec="logit-laplace", floor=-3.5, tau=(1, 1 / 16, None), beta=(0, 6.6, None)),
    "logit-laplace at its floor": dict(rec="logit-laplace", floor=0.1, tau=(1, 0.5, 2), beta=(2, 2, None)),
    "l1, straight through": dict(rec="l1", tau=(0.9, 0.9, None), beta=(0, 0, None), hard=True),
    "l2, use of codes": dict(rec="l2", tau=(0.9, 0.9, None), beta=(0, 1, 4), gamma=0.7),
}


def step(rec, tau, beta, floor=None, hard=False, gamma=0):
    """The loss, its terms and gradients at step 3 of 10; then one step of plain gradient descent, and the average of the weights."""
    sizes = SIZES["colour, three groups of two"]
    dvae = Dvae(*sizes)
    x = 0.8 * pixels(3, 8) + 0.1
    logits = dvae.encoder(x)
    at = lambda s: cosine(s[0], s[1], AT / (s[2] or TOTAL))
    y = torch.softmax((logits + 2 * fill(list(logits.shape), 9)) / at(tau), 1)
    codes = one_hot(y.argmax(1), sizes[5]) - y.detach() + y if hard else y
    output = dvae.decoder(codes)
    mu = output[:, :3]
    if rec == "logit-laplace":
        b = torch.exp(torch.maximum(output[:, 3:], torch.tensor(float(floor))))
        density = torch.exp(-(torch.log(x / (1 - x)) - mu).abs() / b) / (2 * b * x * (1 - x))
        first = -torch.log(density).mean()
        below = (output[:, 3:] < floor).double().mean().item()
        assert below == 0 if floor < 0 else 0.1 < below < 0.9, below
    else:
        difference = 1 / (1 + torch.exp(-mu)) - x
        first = difference.abs().mean() if rec == "l1" else (difference**2).mean()
    q = torch.softmax(logits, 1)
    v = sizes[5]
    kl = (q * torch.log(q * v)).sum(1).mean()
    mean = q.mean((0, 2, 3))
    usage = (mean * torch.log(mean * v)).sum()
    loss = first + at(beta) / (4 * 4 * 3) * kl + gamma * usage
    loss.backward()
    counts = [(logits.argmax(1) == each).sum().item() for each in range(v)]
    shares = [each / sum(counts) for each in counts if each > 0]
    made = {
        "loss": digits(loss.item()),
        "terms": {"rec": digits(first.item()), "kl": digits(kl.item()), **({"usage": digits(usage.item())} if gamma else {})},
        "perplexity": digits(math.exp(-sum(s * math.log(s) for s in shares))),
        "usedCodes": digits(len(shares) / v),
        "temperature": digits(at(tau)),
        "gradients": dvae.gradients(),
    }
    name = "encoder.blocks.output.conv.w"
    weight = dvae.weights[name]
    after = weight.detach() - LR * weight.grad
    made["averaged"] = describe(KEPT * weight.detach() + (1 - KEPT) * after)
    return made


finish(
    "dvae",
    {
        "networks": {name: network(sizes) for name, sizes in SIZES.items()},
        "steps": {name: step(**options) for name, options in STEPS.items()},
    },
)
