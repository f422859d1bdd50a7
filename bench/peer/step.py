"""A method's whole training step in PyTorch: the peer of `tessera bench step`, of the recipe that `--settings` prints.

    step.py --settings RECIPE.json [--threads N] [--form lean|usual] [--attention explicit|sdpa] [--compile]

It says what it is in one line of JSON; then each line of standard input is a number of steps, and is answered by their seconds.
"""
import argparse
import json
import resource
import sys
import time

import torch
from methods import METHODS, views_of
from vit import ATTENTION


def optimizer_of(model, method, settings):
    rule = settings.get("decayRule") or ("all" if method in ("moco-v3", "repre") else "no-bias-norm")
    trained = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trained if rule == "all" or p.ndim > 1]
    others = [p for p in trained if not (rule == "all" or p.ndim > 1)]
    decay = settings["weightDecay"]
    decay = decay if isinstance(decay, (int, float)) else decay["from"]
    groups = [{"params": decayed, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    betas, eps = tuple(settings["betas"]), settings["eps"]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=settings["lr"], betas=betas, eps=eps, fused=True), trained


@torch.no_grad()
def clip_each(gradients, limit):
    """Each gradient by its own norm, as DINO clips, without a synchronisation a tensor."""
    norms = torch._foreach_norm(gradients)
    torch._foreach_add_(norms, 1e-6)
    torch._foreach_reciprocal_(norms)
    torch._foreach_mul_(norms, limit)
    torch._foreach_clamp_max_(norms, 1.0)
    torch._foreach_mul_(gradients, norms)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--settings", required=True)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--form", choices=["lean", "usual"], default="lean")
    parser.add_argument("--attention", choices=["explicit", "sdpa"], default="explicit")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--folder", help="JPEGs to train on, through data.py; else random bytes")
    parser.add_argument("--views", default="dino", help="of data.py")
    parser.add_argument("--decode", default="pil", help="of data.py")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=2)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    with open(given.settings, encoding="utf8") as file:
        recipe = json.load(file)
    torch.manual_seed(0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    options, batch = recipe["method"], recipe["train"]["batchSize"]
    half = recipe["train"]["precision"] == "bfloat16"
    model = METHODS[options["name"]](recipe["model"], options, given.form == "lean").train()
    optimizer, trained = optimizer_of(model, options["name"], recipe["optimizer"])
    clip = recipe["optimizer"]["clip"]
    mean, std = (torch.tensor(recipe["data"][key]).view(3, 1, 1) for key in ("mean", "std"))
    scale, shift = 1 / (255 * std), -mean / std
    raw = {
        name: torch.randint(0, 256, (crops, batch, 3, side, side), dtype=torch.uint8)
        for name, (crops, side) in views_of(options).items()
    }

    busy, take = time.process_time, None
    if given.folder:
        from data import stream_of

        stream, busy = stream_of(given.folder, given.views, batch, given.workers, given.decode == "pil")
        # The loader has the crops of an image together; the model wants the images of a crop together.
        take = lambda: {name: each.transpose(0, 1) for name, each in next(stream).items()}

    def step():
        views = take() if take else {name: each.float().mul_(scale).add_(shift) for name, each in raw.items()}
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = model(views)
        value = loss.item()
        assert value == value, "the loss is not a number"
        loss.backward()
        if clip["kind"] == "global":
            torch.nn.utils.clip_grad_norm_(trained, clip["maxNorm"], foreach=True)
        elif clip["kind"] == "per-tensor":
            clip_each([p.grad for p in trained if p.grad is not None], clip["maxNorm"])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        model.after_step()

    # Counted with explicit attention: the counter has no rule for the fused operator of CPUs.
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        step()
    ATTENTION["kind"] = given.attention
    if given.compile:
        for part in model.compiled():
            part.compile(dynamic=False)
    for _ in range(given.warmup):
        step()
    say = lambda value: print(json.dumps(value), flush=True)
    say(
        {
            "parameters": sum(p.numel() for p in model.parameters()),
            "flops": counter.get_total_flops(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "memory": {"rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "rssBefore": before},
        }
    )
    for line in sys.stdin:
        wall, cpu = [], []
        for _ in range(int(line)):
            start, cpu_start = time.perf_counter(), busy()
            step()
            wall.append(time.perf_counter() - start)
            cpu.append(busy() - cpu_start)
        say({"wall": wall, "cpu": cpu})


if __name__ == "__main__":
    main()
