"""Schedules step by step as the papers' programs compute them: DINO's arrays (linspace warm-up, then a cosine) and MoCo v3's formulas of a
fractional epoch. Plain Python, no torch arithmetic."""
import math

from golden_io import finish

EPOCHS, PER_EPOCH = 10, 7
STEPS = EPOCHS * PER_EPOCH


def linspace(start, end, count):
    return [start + (end - start) * i / (count - 1) for i in range(count)] if count > 1 else [start] * count


def dino(base, final, warmup_epochs=0, start=0.0):
    rise = warmup_epochs * PER_EPOCH
    left = STEPS - rise
    return linspace(start, base, rise) + [final + 0.5 * (base - final) * (1 + math.cos(math.pi * i / left)) for i in range(left)]


def dino_temperature(start, end, warmup_epochs):
    by_epoch = linspace(start, end, warmup_epochs) + [end] * (EPOCHS - warmup_epochs)
    return [by_epoch[step // PER_EPOCH] for step in range(STEPS)]


def moco_rate(lr, warmup_epochs):
    values = []
    for step in range(STEPS):
        epoch = step / PER_EPOCH
        if epoch < warmup_epochs:
            values.append(lr * epoch / warmup_epochs)
        else:
            values.append(lr * 0.5 * (1 + math.cos(math.pi * (epoch - warmup_epochs) / (EPOCHS - warmup_epochs))))
    return values


def moco_momentum(m):
    return [1 - 0.5 * (1 + math.cos(math.pi * step / PER_EPOCH / EPOCHS)) * (1 - m) for step in range(STEPS)]


def moco_probe(lr):
    return [lr * 0.5 * (1 + math.cos(math.pi * (step // PER_EPOCH) / EPOCHS)) for step in range(STEPS)]


finish(
    "optim_schedules",
    {
        "run": {"steps": STEPS, "stepsPerEpoch": PER_EPOCH},
        "DINO learning rate": dino(5e-4, 1e-6, warmup_epochs=3),
        "DINO weight decay": dino(0.04, 0.4),
        "DINO momentum": dino(0.996, 1.0),
        "DINO teacher temperature": dino_temperature(0.04, 0.07, 4),
        "MoCo v3 learning rate": moco_rate(2.4e-3, 4),
        "MoCo v3 momentum": moco_momentum(0.99),
        "MoCo v3 linear probe": moco_probe(12.0),
    },
)
