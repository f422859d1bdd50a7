"""What the reference programs share: numbers by a formula that the TypeScript tests repeat, and writing or checking golden files.

Each program makes a dict of cases and ends with `finish("name", cases)`:

    python tests/reference/NAME.py            # writes tests/reference/goldens/NAME.json
    python tests/reference/NAME.py --check    # compares with the committed file: exit code 1 and the differences where there are any
"""
import base64
import json
import struct
import sys
from pathlib import Path

import torch

FOLDER = Path(__file__).parent / "goldens"


def fill(shape, seed):
    """float64 numbers in [-1, 1] that look irregular, the same in golden.ts."""
    count = 1
    for size in shape:
        count *= size
    values = [((i * 7919 + seed * 104729 + i * i * 31) % 2003) / 1001.5 - 1 for i in range(count)]
    return torch.tensor(values, dtype=torch.float64).reshape(shape)


def seed_of(name):
    """A seed that depends on every letter of a name."""
    return sum(ord(letter) * (i + 1) for i, letter in enumerate(name)) % 997


def encode(value):
    """A tensor as shape and base64 of its float64 (float32 where it is float32) bytes."""
    value = value.detach().cpu()
    single = value.dtype == torch.float32
    flat = value.reshape(-1).to(torch.float64).tolist()
    data = struct.pack(f"<{len(flat)}{'f' if single else 'd'}", *flat)
    return {"shape": list(value.shape), "dtype": "float32" if single else "float64", "data": base64.b64encode(data).decode()}


def decode(entry):
    data = base64.b64decode(entry["data"])
    letter, size = ("f", 4) if entry["dtype"] == "float32" else ("d", 8)
    return struct.unpack(f"<{len(data) // size}{letter}", data)


def plain(value):
    if isinstance(value, torch.Tensor):
        return encode(value)
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value


def close(a, b, tolerance):
    return a == b or abs(a - b) <= tolerance * (1 + abs(b)) or (a != a and b != b)


def differences(made, kept, path=""):
    if isinstance(made, dict) and isinstance(kept, dict):
        if set(made) == {"shape", "dtype", "data"}:
            if made["shape"] != kept.get("shape") or made["dtype"] != kept.get("dtype"):
                return [f"{path}: shape or dtype differs"]
            tolerance = 1e-6 if made["dtype"] == "float32" else 1e-9
            pairs = zip(decode(made), decode(kept))
            return [] if all(close(a, b, tolerance) for a, b in pairs) else [f"{path}: values differ"]
        if set(made) != set(kept):
            return [f"{path}: keys differ: {sorted(set(made) ^ set(kept))}"]
        return [line for key in made for line in differences(made[key], kept[key], f"{path}/{key}")]
    if isinstance(made, list) and isinstance(kept, list):
        if len(made) != len(kept):
            return [f"{path}: lengths differ"]
        return [line for i, (a, b) in enumerate(zip(made, kept)) for line in differences(a, b, f"{path}[{i}]")]
    if isinstance(made, float) and isinstance(kept, (int, float)):
        return [] if close(made, float(kept), 1e-9) else [f"{path}: {made} is not {kept}"]
    return [] if made == kept else [f"{path}: {made} is not {kept}"]


def finish(name, cases):
    path = FOLDER / f"{name}.json"
    made = plain(cases)
    if "--check" in sys.argv[1:]:
        wrong = differences(made, json.loads(path.read_text()))
        print("\n".join(wrong) if wrong else f"{path.name} agrees with torch {torch.__version__}")
        sys.exit(1 if wrong else 0)
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in made.items())
    path.write_text("{\n" + lines + "\n}\n")
    print(f"wrote {path} ({path.stat().st_size} bytes)")
