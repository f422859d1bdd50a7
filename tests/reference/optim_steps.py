"""Optimisers over several steps with changing rates, clipping and averaging, in float64.

AdamW and SGD are torch.optim's. LARS is written from arXiv 1708.03888 with the choices that MoCo v3 (arXiv 2104.02057) names: momentum 0.9,
trust coefficient 0.001, parameters of at most one dimension neither decay nor are adapted.
Gradients are given, not computed: fill(shape, 100 * step + position) / (step + 1). Some are missing at some steps.
"""
import torch

from golden_io import fill, finish

torch.set_default_dtype(torch.float64)

# name, shape, factor on the learning rate, factor on the decay
PARAMETERS = [("weight", [4, 3], 1.0, 1.0), ("bias", [4], 1.0, 0.0), ("kernel", [2, 2, 2, 1], 0.5, 1.0), ("scale", [1], 0.5, 0.0), ("zero", [2, 2], 1.0, 1.0)]
STEPS = 6
RATES = [(0.1, 0.0), (0.2, 0.05), (0.15, 0.1), (0.1, 0.4), (0.05, 0.2), (0.0, 0.2)]
# (step, name) where there is no gradient: once in the middle, and one parameter that starts late
MISSING = {(2, "weight"), (0, "bias"), (1, "bias"), (3, "kernel")}


def start():
    return {name: (torch.zeros(shape) if name == "zero" else fill(shape, i + 10)).requires_grad_() for i, (name, shape, _, _) in enumerate(PARAMETERS)}


def gradient(step, i, shape):
    return fill(shape, 100 * step + i) / (step + 1)


def set_gradients(parameters, step):
    for i, (name, shape, _, _) in enumerate(PARAMETERS):
        parameters[name].grad = None if (step, name) in MISSING else gradient(step, i, shape)


def with_torch(make):
    parameters = start()
    groups = [{"params": [parameters[name]], "scales": (rate, decay)} for name, _, rate, decay in PARAMETERS]
    optimizer = make(groups)
    history = []
    for step, (lr, wd) in enumerate(RATES):
        set_gradients(parameters, step)
        for group in optimizer.param_groups:
            group["lr"] = lr * group["scales"][0]
            group["weight_decay"] = wd * group["scales"][1]
        optimizer.step()
        history.append({name: each.detach().clone() for name, each in parameters.items()})
    return history


def lars(momentum, trust):
    parameters = start()
    velocity = {}
    history = []
    for step, (lr, wd) in enumerate(RATES):
        set_gradients(parameters, step)
        for name, _, rate, decay in PARAMETERS:
            w = parameters[name]
            if w.grad is None:
                continue
            direction = w.grad
            if w.ndim > 1:
                direction = direction + wd * decay * w.detach()
                length, wanted = float(direction.norm()), float(w.detach().norm())
                if length > 0 and wanted > 0:
                    direction = direction * (trust * wanted / length)
            velocity[name] = momentum * velocity.get(name, torch.zeros_like(w)) + direction
            with torch.no_grad():
                w -= lr * rate * velocity[name]
        history.append({name: each.detach().clone() for name, each in parameters.items()})
    return history


def clipped(kind, limit):
    shapes = [[3, 2], [4], [2, 2, 2]]
    parameters = [torch.zeros(shape, requires_grad=True) for shape in shapes] + [torch.zeros(2, requires_grad=True)]
    for i, shape in enumerate(shapes):
        parameters[i].grad = fill(shape, i + 1) * 3**i
    if kind == "global":
        norms = torch.nn.utils.clip_grad_norm_(parameters, limit)
    else:  # DINO (arXiv 2104.14294): each gradient by its own norm
        norms = []
        for each in parameters[:3]:
            norms.append(each.grad.norm())
            factor = limit / (float(norms[-1]) + 1e-6)
            if factor < 1:
                each.grad = each.grad * factor
        norms = torch.stack(norms)
    return {"limit": limit, "norms": norms, "gradients": [each.grad for each in parameters[:3]]}


def averaged():
    teacher, student = fill([3, 4], 1), fill([3, 4], 2)
    history = []
    for step, m in enumerate([0.996, 0.5, 0.0, 0.9, 1.0]):
        teacher = m * teacher + (1 - m) * student
        history.append({"momentum": m, "teacher": teacher.clone()})
        student = student + fill([3, 4], 3 + step)
    return history


finish(
    "optim_steps",
    {
        "parameters": [{"name": name, "shape": shape, "lrScale": rate, "decayScale": decay} for name, shape, rate, decay in PARAMETERS],
        "rates": RATES,
        "missing": sorted([step, name] for step, name in MISSING),
        "AdamW": with_torch(lambda groups: torch.optim.AdamW(groups, foreach=False)),
        "AdamW of other betas": with_torch(lambda groups: torch.optim.AdamW(groups, betas=(0.8, 0.95), eps=1e-3, foreach=False)),
        "SGD": with_torch(lambda groups: torch.optim.SGD(groups, lr=1, foreach=False)),
        "SGD with momentum": with_torch(lambda groups: torch.optim.SGD(groups, lr=1, momentum=0.9, foreach=False)),
        "SGD with dampening": with_torch(lambda groups: torch.optim.SGD(groups, lr=1, momentum=0.9, dampening=0.3, foreach=False)),
        "SGD with Nesterov": with_torch(lambda groups: torch.optim.SGD(groups, lr=1, momentum=0.9, nesterov=True, foreach=False)),
        "LARS": lars(0.9, 0.001),
        "LARS of another trust": lars(0.5, 0.02),
        "clip": {kind: [clipped(kind, limit) for limit in (0.5, 3.0, 100.0)] for kind in ("global", "per tensor")},
        "ema": averaged(),
    },
)
