"""What the programs of the masked methods share: fixed positions, and a patch as a row of numbers."""
import torch


def sin_cos(rows, columns, width, column_first=False):
    """Sine and cosine of the row, then of the column; the other way round as MAE's code has it."""
    omega = 1 / 10000 ** (torch.arange(width // 4) / (width // 4))
    r, c = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    order = (c, r) if column_first else (r, c)
    return torch.cat([f(at.double().reshape(-1, 1) * omega) for at in order for f in (torch.sin, torch.cos)], 1)


def pixels(image, row, column, P=4):
    """A patch's numbers: pixels row by row, channels together."""
    return image[:, row * P : row * P + P, column * P : column * P + P].permute(1, 2, 0).reshape(-1)
