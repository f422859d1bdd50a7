"""Probes over several steps, in float64: every member of a grid by itself, as torch.nn modules with torch.optim or the update written out.

linear     Features, BatchNorm1d without affine where asked, Linear; SGD (torch.optim) or LARS, written from arXiv 1708.03888 with MoCo v3's choices
           (momentum 0.9, trust coefficient 0.001, no decay and no adaptation of biases); learning rates rise linearly and fall along half a
           cosine, changed every step or every epoch.
attentive  CAE's attentive probing (arXiv 2202.03026): a query of its own against all tokens, LayerNorms of their own for query, keys and values,
           no residual, BatchNorm1d without affine, Linear; SGD with Nesterov's momentum. Written out head by head from the paper.
"""
import math

import torch
from torch import nn
from torch.nn import functional as F

from golden_io import fill, finish, seed_of

torch.set_default_dtype(torch.float64)

CLASSES = 4


def labels_of(count):
    return torch.tensor([(i * 7 + i // 5) % CLASSES for i in range(count)])


def rate(base, step, steps, per_epoch, warmup, final, by_epoch):
    """Learning rate at a step: linear from 0 over `warmup` epochs, then half a cosine to `final`."""
    unit = per_epoch if by_epoch else 1
    at, rise, total = step // unit, warmup * per_epoch // unit, steps // unit
    if at < rise:
        return base * at / rise
    return final + (base - final) * 0.5 * (1 + math.cos(math.pi * (at - rise) / (total - rise)))


# ---- linear

WIDTH = 6
IMAGES, BATCH, EPOCHS = 24, 8, 3
LINEAR = {
    "sgd": dict(optimizer="sgd", batchNorm=False, lr=[0.3, 2.0], weightDecay=[0.0], warmup=0, per="epoch"),
    "sgd with norm and decay": dict(optimizer="sgd", batchNorm=True, lr=[0.1, 1.0], weightDecay=[0.0, 0.05], warmup=1, per="step"),
    "lars": dict(optimizer="lars", batchNorm=False, lr=[2.0, 8.0], weightDecay=[0.0, 0.1], warmup=1, per="step"),
    "lars with norm": dict(optimizer="lars", batchNorm=True, lr=[1.0, 4.0, 10.0], weightDecay=[0.0], warmup=0, per="step"),
}


def lars_step(parameters, velocity, lr, decay):
    for name, w in parameters:
        direction = w.grad
        if w.ndim > 1:
            direction = direction + decay * w.detach()
            norms = w.detach().norm(), direction.norm()
            if norms[0] > 0 and norms[1] > 0:
                direction = direction * (0.001 * norms[0] / norms[1])
        velocity[name] = 0.9 * velocity.get(name, torch.zeros_like(w)) + direction
        with torch.no_grad():
            w -= lr * velocity[name]


def linear(case):
    features, labels = fill([IMAGES, WIDTH], 3) * 2 + 0.5, labels_of(IMAGES)
    test = fill([5, WIDTH], 4) * 2
    members = []
    per_epoch = IMAGES // BATCH
    for decay in case["weightDecay"]:
        for base in case["lr"]:
            head = nn.Linear(WIDTH, CLASSES)
            norm = nn.BatchNorm1d(WIDTH, affine=False, eps=1e-6) if case["batchNorm"] else nn.Identity()
            with torch.no_grad():
                head.weight.copy_(fill([CLASSES, WIDTH], 1) * 0.1)
                head.bias.zero_()
            sgd = torch.optim.SGD(head.parameters(), lr=1.0, momentum=0.9, weight_decay=decay)
            velocity, losses, gradients = {}, [], {}
            for step in range(EPOCHS * per_epoch):
                rows = slice(step % per_epoch * BATCH, (step % per_epoch + 1) * BATCH)
                norm.train()
                loss = F.cross_entropy(head(norm(features[rows])), labels[rows])
                head.zero_grad()
                loss.backward()
                losses.append(loss.item())
                if step == 1:
                    gradients = {name: each.grad.clone() for name, each in head.named_parameters()}
                lr = rate(base, step, EPOCHS * per_epoch, per_epoch, case["warmup"], 0.0, case["per"] == "epoch")
                if case["optimizer"] == "lars":
                    lars_step(list(head.named_parameters()), velocity, lr, decay)
                else:
                    sgd.param_groups[0]["lr"] = lr
                    sgd.step()
            norm.eval()
            members.append(dict(losses=losses, gradients=gradients, weight=head.weight, bias=head.bias, scores=head(norm(test))))
    return dict(case, members=members)


# ---- attentive

C, HEADS, TOKENS = 12, 3, 5
RATES = [0.05, 0.5]


class Attentive(nn.Module):
    def __init__(self):
        super().__init__()
        self.query = nn.Parameter(torch.zeros(1, 1, C))
        self.norm1_q, self.norm1_k, self.norm1_v = (nn.LayerNorm(C, eps=1e-6) for _ in range(3))
        self.q, self.k, self.v = nn.Linear(C, C), nn.Linear(C, C, bias=False), nn.Linear(C, C)
        self.proj = nn.Linear(C, C)
        self.bn = nn.BatchNorm1d(C, affine=False, eps=1e-5)
        self.head = nn.Linear(C, CLASSES)

    def pooled(self, tokens):
        q = self.q(self.norm1_q(self.query))[0, 0]
        k, v = self.k(self.norm1_k(tokens)), self.v(self.norm1_v(tokens))
        parts = []
        for h in range(HEADS):
            own = slice(h * C // HEADS, (h + 1) * C // HEADS)
            scores = (k[:, :, own] * q[own]).sum(-1) / math.sqrt(C / HEADS)
            parts.append((scores.softmax(1)[:, :, None] * v[:, :, own]).sum(1))
        return self.proj(torch.cat(parts, 1))

    def forward(self, tokens):
        return self.head(self.bn(self.pooled(tokens)))


def attentive():
    tokens, labels = fill([IMAGES, TOKENS, C], 5) * 3 + 0.3, labels_of(IMAGES)
    test = fill([4, TOKENS, C], 6) * 2
    per_epoch = IMAGES // BATCH
    members = []
    for base in RATES:
        model = Attentive()
        with torch.no_grad():
            for name, each in model.named_parameters():
                each.copy_(fill(each.shape, seed_of(name)) * 0.5)
                if name.startswith("norm1") and name.endswith("weight"):
                    each.add_(1)
        with torch.no_grad():
            start = model.pooled(test)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9, nesterov=True)
        losses, gradients = [], {}
        for step in range(2 * per_epoch):
            rows = slice(step % per_epoch * BATCH, (step % per_epoch + 1) * BATCH)
            model.train()
            loss = F.cross_entropy(model(tokens[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            losses.append(loss.item())
            if step == 0:
                gradients = {name: each.grad.clone() for name, each in model.named_parameters()}
            optimizer.param_groups[0]["lr"] = rate(base, step, 2 * per_epoch, per_epoch, 1, 1e-6, False)
            optimizer.step()
        model.eval()
        parameters = {name: each for name, each in model.named_parameters() if not name.startswith("norm1_k.bias")}
        members.append(dict(losses=losses, gradients=gradients, parameters=parameters, scores=model(test), pooled=start))
    return dict(lr=RATES, members=members)


finish("probes", {"linear": {name: linear(case) for name, case in LINEAR.items()}, "attentive": attentive()})
