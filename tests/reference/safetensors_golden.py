"""Writes goldens/all_dtypes.safetensors with the reference implementation (pip install safetensors torch): every dtype that Tessera has,
names that need care, shapes without elements and without dimensions. `python safetensors_golden.py FILE` writes it elsewhere."""
import struct
import sys
from pathlib import Path

import torch
from safetensors.torch import save

FORMATS = {
    "float32": ("f", [1.5, -2.0, 3.0, 0.0, -0.5, 6.25]),
    "float64": ("d", [1.1, -2.2, 3.3, 0.0, 1e300, 6.0]),
    "float16": ("H", [0x3C00, 0xC000, 0x7BFF, 0, 1, 2]),
    "bfloat16": ("H", [0x3F80, 0xC000, 0x7F7F, 0, 1, 2]),
    "int64": ("q", [-(2**63), 2**63 - 1, 0, 1, 2, 3]),
    "int32": ("i", [-(2**31), 2**31 - 1, 0, 1, 2, 3]),
    "int16": ("h", [-(2**15), 2**15 - 1, 0, 1, 2, 3]),
    "int8": ("b", [-128, 127, 0, 1, 2, 3]),
    "uint8": ("B", [0, 255, 1, 2, 3, 4]),
    "bool": ("B", [0, 1, 1, 0, 1, 0]),
}

tensors = {}
for dtype, (code, values) in FORMATS.items():
    data = bytearray(struct.pack(f"<6{code}", *values))
    tensors[f"blocks.0.{dtype}"] = torch.frombuffer(data, dtype=getattr(torch, dtype)).reshape(2, 3)
tensors["empty"] = torch.zeros(2, 0)
tensors["scalar"] = torch.tensor(7.0)
tensors['näme "quoted"\n\\'] = torch.tensor([9], dtype=torch.uint8)
tensors["odd"] = torch.tensor([1, 2, 3], dtype=torch.uint8)

target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "goldens" / "all_dtypes.safetensors"
target.write_bytes(save(tensors, {"format": "pt"}))
