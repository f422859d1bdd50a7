"""MAE, one forward and backward pass in float64, from arXiv 2111.06377: the visible patches of each image by themselves through the encoder, the
whole sequence through the decoder, patch by patch through the loss."""
import torch
from torch import nn

from golden_io import fill, finish
from patch_parts import pixels, sin_cos
from vit import Block, Vit, describe, set_weights

torch.set_default_dtype(torch.float64)
B, P = 3, 4


class Decoder(nn.Module):
    def __init__(self, width, inner, depth, heads, out, grid):
        super().__init__()
        self.decoder_embed = nn.Linear(width, inner)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, inner))
        self.decoder_blocks = nn.ModuleList(Block(inner, heads, 4, True, True, False) for _ in range(depth))
        self.decoder_norm = nn.LayerNorm(inner, eps=1e-6)
        self.decoder_pred = nn.Linear(inner, out)
        self.positions = sin_cos(*grid, inner, column_first=True)

    def forward(self, tokens, visible, count):
        """One image: tokens [1 + n, C], the numbers of the n visible patches."""
        x = self.decoder_embed(tokens)
        places = {number: x[1 + i] for i, number in enumerate(visible)}
        sequence = [x[0]] + [places.get(i, self.mask_token[0, 0]) + self.positions[i] for i in range(count)]
        x = torch.stack(sequence)[None]
        for block in self.decoder_blocks:
            x = block(x)
        return self.decoder_pred(self.decoder_norm(x))[0, 1:]


def run(ratio, normalize):
    encoder = set_weights(Vit((4, 4), fixed=sin_cos(4, 4, 16, column_first=True)), "backbone.")
    decoder = set_weights(Decoder(16, 12, 2, 3, P * P * 3, (4, 4)), "decoder.")
    images, noise = fill([B, 3, 16, 16], 10), fill([B, 16], 11)
    kept = int(16 * (1 - ratio))
    visible = [row.argsort(stable=True)[:kept] for row in noise]
    tokens = encoder(images, subset=visible)
    losses, predicted = [], []
    for image, each, chosen in zip(images, tokens, visible):
        out = decoder(each, chosen.tolist(), 16)
        for i in range(16):
            if i in chosen.tolist():
                continue
            target = pixels(image, i // 4, i % 4)
            if normalize:
                mean = target.sum() / len(target)
                variance = ((target - mean) ** 2).sum() / (len(target) - 1)
                target = (target - mean) / (variance + 1e-6).sqrt()
            losses.append(((out[i] - target) ** 2).sum() / len(target))
        predicted.append(out)
    loss = sum(losses) / len(losses)
    loss.backward()
    gradients = {f"backbone.{n}": describe(p.grad) for n, p in encoder.named_parameters()}
    gradients |= {f"decoder.{n}": describe(p.grad) for n, p in decoder.named_parameters()}
    return {"loss": loss.item(), "gradients": gradients, "predicted": predicted[1], "visible": [row.tolist() for row in visible]}


finish("mae", {"positions": sin_cos(4, 4, 16, column_first=True), "normalised": run(0.75, True), "raw": run(0.6, False)})
