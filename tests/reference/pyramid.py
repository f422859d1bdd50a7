"""Feature maps at four scales in float64: of a ViT by the deconvolutions and the pooling of BEiT's and CAE's segmentation code, of a Swin by its
stages with a LayerNorm each (timm's Swin makes the stages). Training mode, so that batch norm takes the batch's statistics. Needs timm."""
import torch
from torch import nn

try:
    import timm
except RuntimeError:  # a torchvision whose operators do not load: timm only needs their names
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import timm  # noqa: F401
from timm.models.swin_transformer import SwinTransformer

from golden_io import fill, finish
from vit import Vit, describe, set_weights


class ViTPyramid(nn.Module):
    def __init__(self, width, blocks, **options):
        super().__init__()
        self.encoder = Vit((3, 4), width=width, depth=4, **options)
        self.blocks = blocks
        up = lambda: nn.ConvTranspose2d(width, width, kernel_size=2, stride=2)
        self.fpn1 = nn.Sequential(up(), nn.BatchNorm2d(width), nn.GELU(), up())
        self.fpn2 = nn.Sequential(up())

    def forward(self, images):
        self.encoder(images)
        rows = images.shape[2] // self.encoder.patch
        first, second, third, fourth = (
            self.encoder.levels[i][:, self.encoder.prefix :].transpose(1, 2).unflatten(2, (rows, -1)) for i in self.blocks
        )
        # Max-pooling written out: the larger of each square's four, an odd row or column left out.
        r, c = fourth.shape[2] // 2, fourth.shape[3] // 2
        pooled = fourth[:, :, : 2 * r, : 2 * c].unflatten(3, (c, 2)).unflatten(2, (r, 2)).amax((3, 5))
        return [self.fpn1(first), self.fpn2(second), third, pooled]


class SwinPyramid(nn.Module):
    def __init__(self, size):
        super().__init__()
        settings = dict(embed_dim=4, depths=(1, 2, 1, 1), num_heads=(1, 1, 2, 2), window_size=2, drop_path_rate=0.0, num_classes=0)
        self.encoder = SwinTransformer(img_size=size, patch_size=4, **settings)
        for i in range(4):
            self.add_module(f"norm{i}", nn.LayerNorm(4 * 2**i))

    def forward(self, images):
        x = self.encoder.patch_embed(images)
        maps = []
        for i, layer in enumerate(self.encoder.layers):
            x = layer(x)
            maps.append(getattr(self, f"norm{i}")(x).permute(0, 3, 1, 2))
        return maps


def run(model, size):
    model = set_weights(model.double())
    maps = model(fill([2, 3, *size], 1))
    sum((each * fill(list(each.shape), 2 + i)).sum() for i, each in enumerate(maps)).backward()
    return {
        "names": list(model.state_dict()),
        "shapes": [list(each.shape) for each in maps],
        "maps": [each[1, :, :3, :3].clone() for each in maps],
        "sums": [describe(each) for each in maps],
        "gradients": {name: describe(each.grad) for name, each in model.named_parameters() if each.grad is not None},
    }


finish(
    "pyramid",
    {
        "vit": run(ViTPyramid(8, (0, 1, 2, 3)), (12, 16)),
        # Another grid than the positions', odd both ways; blocks by choice, one twice; no class token.
        "vit by choice": run(ViTPyramid(8, (1, 1, 2, 3), class_token=False), (20, 12)),
        "swin": run(SwinPyramid(64), (64, 64)),
    },
)
