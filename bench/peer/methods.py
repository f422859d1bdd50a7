"""The steps of the seven methods in PyTorch, from a recipe that Tessera resolved. `lean` leaves out what no loss looks at, as Tessera does."""
import copy

import torch
import torch.nn.functional as F
from torch import nn
from layers import CaeDecoder, DinoHead, FusionDecoder, ImageDecoder, MaeDecoder, Regressor, SegmentDecoder, moco_head
from vit import Vit, gather, sin_cos

EPOCH, EPOCHS, STEP, STEPS = 50, 100, 5000, 10_000


def frozen_copy(module):
    return copy.deepcopy(module).requires_grad_(False)


class Teacher:
    """An exponential moving average of the student's parameters, all at once."""

    def __init__(self, teacher, student):
        pairs = dict(student.named_parameters())
        self.teacher = [p for _, p in teacher.named_parameters()]
        self.student = [pairs[name] for name, _ in teacher.named_parameters()]

    @torch.no_grad()
    def update(self, momentum):
        torch._foreach_lerp_(self.teacher, self.student, 1 - momentum)


class DinoNetwork(nn.Module):
    def __init__(self, model, head, drop_path=True):
        super().__init__()
        self.backbone, self.head = Vit(model, drop_path=drop_path), DinoHead(model["width"], **head)


class Dino(nn.Module):
    def __init__(self, model, options, lean):
        super().__init__()
        self.options, self.lean = options, lean
        self.student = DinoNetwork(model, options["head"])
        teacher = DinoNetwork(model, options["head"], drop_path=False)
        teacher.load_state_dict(self.student.state_dict())
        self._teacher = [teacher.requires_grad_(False)]
        self.register_buffer("center", torch.zeros(1, options["head"]["outFeatures"]))
        self.ema = Teacher(teacher, self.student)

    @property
    def teacher(self):
        return self._teacher[0]

    def compiled(self):
        return [self.student.backbone, self.student.head, self.teacher.backbone, self.teacher.head]

    @torch.no_grad()
    def teach(self, images, attention=False):
        tokens, _, weights = self.teacher.backbone(images, attention=attention, class_only=self.lean)
        raw = self.teacher.head(tokens[:, 0]).float()
        self.mean = raw.mean(0, keepdim=True)
        temperature = self.options["teacherTemperature"]["to"]
        return ((raw - self.center) / temperature).softmax(-1), weights

    def study(self, images, local, token_mask=None, levels=(), all_tokens=False):
        tokens, outputs, _ = self.student.backbone(
            images, token_mask=token_mask, levels=levels, class_only=self.lean and not all_tokens
        )
        features = [tokens[:, 0]]
        if local is not None:
            features.append(self.student.backbone(local, class_only=self.lean)[0][:, 0])
        return self.student.head(torch.cat(features)), tokens, outputs

    def loss(self, logits, target, batch):
        student = F.log_softmax(logits.float() / self.options["studentTemperature"], -1).split(batch)
        total, pairs = 0, 0
        for t, q in enumerate(target.split(batch)):
            for v, p in enumerate(student):
                if v != t:
                    total, pairs = total - (q * p).sum(-1).mean(), pairs + 1
        return total / pairs

    def forward(self, views):
        images = views["global"].flatten(0, 1)
        target, _ = self.teach(images)
        local = views["local"].flatten(0, 1) if "local" in views else None
        return self.loss(self.study(images, local)[0], target, views["global"].shape[1])

    @torch.no_grad()
    def after_step(self):
        m = self.options["momentum"]
        self.ema.update(1 - (1 - m) / 2)
        self.center.lerp_(self.mean, 1 - self.options["centerMomentum"])


class Mst(nn.Module):
    def __init__(self, model, options, lean):
        super().__init__()
        self.options = options
        self.dino = Dino(model, options["dino"], lean)
        self.mask_token = nn.Parameter(torch.zeros(model["width"]))
        width, narrowest, norm = options["decoderWidth"], options["decoderNarrowest"], options["decoderBatchNorm"]
        self.decoder = ImageDecoder(model["width"], model["patchSize"], options["decoderForm"], width, narrowest, norm)

    def compiled(self):
        return [*self.dino.compiled(), self.decoder]

    def forward(self, views):
        images = views["global"].flatten(0, 1)
        target, weights = self.dino.teach(images, attention=True)
        scores = weights[:, :, 1:].float().mean(1)
        candidates = scores.shape[1] // int(self.options["num"])
        threshold = scores.kthvalue(candidates + 1, 1, keepdim=True).values
        mask = (scores < threshold) & (torch.rand_like(scores) < self.options["p"])
        local = views["local"].flatten(0, 1) if "local" in views else None
        logits, tokens, _ = self.dino.study(images, local, (mask, self.mask_token), all_tokens=True)
        ce = self.dino.loss(logits, target, views["global"].shape[1])
        restored = self.decoder(tokens[:, 1:], self.dino.student.backbone.side)
        return self.options["lambda1"] * ce + self.options["lambda2"] * F.l1_loss(restored.float(), images)

    def after_step(self):
        self.dino.after_step()


class MocoNetwork(nn.Module):
    def __init__(self, model, options, drop_path=True):
        super().__init__()
        self.backbone = Vit(model, drop_path=drop_path)
        self.head = moco_head(model["width"], options["hidden"], options["outFeatures"], options["projectorLayers"])

    def forward(self, images, embedded, lean, levels=()):
        tokens, outputs, _ = self.backbone(images, embedded=embedded, levels=levels, class_only=lean and not levels)
        return [self.head(each) for each in tokens[:, 0].chunk(2)], outputs


class Moco(nn.Module):
    def __init__(self, model, options, lean):
        super().__init__()
        self.options, self.lean = options, lean
        self.online = MocoNetwork(model, options)
        out, hidden = options["outFeatures"], options["hidden"]
        self.predictor = moco_head(out, hidden, out, options["predictorLayers"])
        self.online.backbone.patch_embed.requires_grad_(not options["freezePatchProjection"])
        momentum = MocoNetwork(model, options, drop_path=False)
        momentum.load_state_dict(self.online.state_dict())
        self._momentum = [momentum.requires_grad_(False)]
        self.ema = Teacher(momentum, self.online)

    def compiled(self):
        momentum = self._momentum[0]
        return [self.online.backbone, self.online.head, self.predictor, momentum.backbone, momentum.head]

    def contrast(self, q, k):
        logits = F.normalize(q.float(), dim=1) @ F.normalize(k.float(), dim=1).T / self.options["temperature"]
        return 2 * self.options["temperature"] * F.cross_entropy(logits, torch.arange(len(q)))

    def forward(self, views, levels=()):
        images, embedded = views["global"].flatten(0, 1), None
        if self.lean:
            with torch.no_grad():
                embedded = self.online.backbone.embed_patches(images)
        projected, outputs = self.online(images, embedded, self.lean, levels)
        q1, q2 = (self.predictor(each) for each in projected)
        with torch.no_grad():
            (k1, k2), _ = self._momentum[0](images, embedded, self.lean)
        # In full precision also under autocast: 1 / tau magnifies what half precision rounds.
        with torch.autocast("cpu", enabled=False):
            loss = self.contrast(q1, k2) + self.contrast(q2, k1)
        return (loss, images, outputs) if levels else loss

    def after_step(self):
        self.ema.update(1 - (1 - self.options["momentum"]) / 2)


class Repre(nn.Module):
    def __init__(self, model, options, lean):
        super().__init__()
        self.options = options
        framework = options["framework"]
        assert framework["name"] == "moco-v3" and options["reconstruct"] == "global" and options["distance"] == "l1"
        self.moco = Moco(model, framework, lean)
        count, depth = options["levels"], model["depth"]
        self.levels = [-(-(i + 1) * depth // count) - 1 for i in range(count)]
        width, narrowest, norm = options["decoderWidth"], options["decoderNarrowest"], options["decoderBatchNorm"]
        self.decoder = FusionDecoder(
            model["width"], model["patchSize"], count, options["fusion"], options["decoderForm"], width, narrowest, norm
        )

    def compiled(self):
        return [*self.moco.compiled(), self.decoder]

    def forward(self, views):
        loss, images, outputs = self.moco(views, self.levels)
        restored = self.decoder([each[:, 1:] for each in outputs], self.moco.online.backbone.side)
        return loss + self.options["lambda"] * F.l1_loss(restored.float(), images)

    def after_step(self):
        self.moco.after_step()


def patch_target(images, patch):
    b, c, h, w = images.shape
    x = images.reshape(b, c, h // patch, patch, w // patch, patch)
    x = x.permute(0, 2, 4, 3, 5, 1).reshape(b, (h // patch) * (w // patch), -1)
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + 1e-6).sqrt()


class Mae(nn.Module):
    def __init__(self, model, options, lean):
        super().__init__()
        self.options, self.lean = options, lean
        self.backbone = Vit(model, lean=lean)
        vit = self.backbone
        width, depth, heads = options["decoderWidth"], options["decoderDepth"], options["decoderHeads"]
        self.decoder = MaeDecoder(vit.width, 3 * vit.patch**2, vit.side, vit.prefix, width, depth, heads)

    def compiled(self):
        return [self.backbone, self.decoder]

    def forward(self, views):
        images = views["image"].flatten(0, 1)
        patches = self.backbone.side**2
        order = torch.rand(len(images), patches).argsort(1)
        kept = int(patches * (1 - self.options["maskRatio"]))
        visible, masked = order[:, :kept], order[:, kept:]
        predicted = self.decoder(self.backbone(images, subset=visible)[0], visible, masked, self.lean)
        return F.mse_loss(predicted.float(), gather(patch_target(images, self.backbone.patch), masked))

    def after_step(self):
        pass


class Cae(nn.Module):
    def __init__(self, model, options, lean):
        super().__init__()
        assert options["target"]["kind"] == "pixels" and options.get("decoderWidth") is None
        self.options = options
        self.backbone = Vit(model, lean=lean)
        vit, scale, rate = self.backbone, options["decoderLayerScale"], options["decoderDropPath"]
        self.mask_token = nn.Parameter(torch.zeros(1, 1, vit.width))
        heads, norm = options["decoderHeads"], options["regressorNorm"]
        self.regressor = Regressor(vit.width, options["regressorDepth"], heads, scale, rate, norm)
        self.decoder = CaeDecoder(vit.width, 3 * vit.patch**2, options["decoderDepth"], heads, scale, rate)
        self.register_buffer("positions", sin_cos(vit.side, vit.width))

    def compiled(self):
        return [self.backbone, self.regressor, self.decoder]

    def forward(self, views):
        images = views["image"].flatten(0, 1)
        patches = self.backbone.side**2
        order = torch.rand(len(images), patches).argsort(1)
        count = round(self.options["maskRatio"] * patches)
        masked, visible = order[:, :count], order[:, count:]
        seen = self.backbone(images, subset=visible)[0][:, 1:]
        with torch.no_grad():
            aligned = self.backbone(images, subset=masked)[0][:, 1:]
        masked_at, visible_at = gather(self.positions, masked), gather(self.positions, visible)
        queries = self.mask_token.to(seen.dtype).expand(len(images), count, -1)
        latents = self.regressor(queries, seen, masked_at, visible_at)
        predicted = self.decoder(latents, masked_at)
        target = gather(patch_target(images, self.backbone.patch), masked)
        loss = F.mse_loss(predicted.float(), target)
        return loss + self.options["align"] * F.mse_loss(latents.float(), aligned.float())

    def after_step(self):
        pass


class Randsac(nn.Module):
    def __init__(self, model, options, lean):
        super().__init__()
        assert options["segments"]["kind"] == "square" and options["skips"] == "learned" and options["skipNorm"]
        self.side = options["segments"]["side"]
        self.backbone = Vit(model, lean=lean)
        vit = self.backbone
        heads = options.get("decoderHeads") or max(1, round(vit.width / 64))
        self.decoder = SegmentDecoder(vit.width, options["decoderDepth"], heads, 3 * vit.patch**2, vit.depth)
        self.register_buffer("positions", sin_cos(vit.side, vit.width))
        at = torch.arange(vit.side) // self.side
        self.register_buffer("segments", (at[:, None] * (vit.side // self.side) + at[None]).flatten())
        n, size = vit.side**2, self.side**2
        block = torch.arange(n - size) // size
        mask = torch.zeros(n - size, n - size).masked_fill_(block[None] > block[:, None], float("-inf"))
        self.register_buffer("mask", mask[None, None])

    def compiled(self):
        return [self.backbone, self.decoder]

    def forward(self, views):
        images = views["image"].flatten(0, 1)
        size = self.side**2
        count = len(self.segments) // size
        ranks = torch.rand(len(images), count).argsort(1).argsort(1)[:, self.segments]
        order = ranks.argsort(dim=1, stable=True)
        seen, wanted = order[:, :-size], order[:, size:]
        depth = self.backbone.depth
        _, levels, _ = self.backbone(images, subset=seen, mask=self.mask, levels=range(depth))
        queries = gather(self.positions, wanted)
        predicted = self.decoder(queries, levels, self.mask)
        return F.mse_loss(predicted.float(), gather(patch_target(images, self.backbone.patch), wanted))

    def after_step(self):
        pass


METHODS = {"dino": Dino, "mst": Mst, "moco-v3": Moco, "repre": Repre, "mae": Mae, "cae": Cae, "randsac": Randsac}


def views_of(options):
    """The sizes of the views, by name: (crops, pixels of a side)."""
    crops = (options.get("dino") or options.get("framework") or options)["crops"]
    side = crops["globalSize"]
    if options["name"] in ("mae", "cae", "randsac"):
        return {"image": (1, side)}
    locals_ = {"local": (crops["locals"], crops["localSize"])} if crops.get("locals") else {}
    return {"global": (2, side), **locals_}
