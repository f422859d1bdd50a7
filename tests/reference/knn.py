"""DINO's weighted k-NN (arXiv 2104.14294, section 4.2; the protocol of its published evaluation), in float64 and in the plain way.

Features are L2-normalised; each of the k most similar bank features adds exp(similarity / T) to its class; classes are sorted by their sums.
The sort is stable: classes with equal sums (those without votes, too) come by their numbers. The published code's sort does the same on a CPU.
"""
import torch
import torch.nn.functional as F

from golden_io import fill, finish

torch.set_default_dtype(torch.float64)


def labels_of(count, classes):
    return torch.tensor([(i * 7 + i // 5) % classes for i in range(count)])


def features_of(labels, dim, classes, seed, spread):
    """A centre for each class, and noise."""
    return fill([classes, dim], 1)[labels] + spread * fill([len(labels), dim], seed)


def knn(bank, bank_labels, queries, labels, classes, k, temperature):
    similarity = F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T
    nearest, index = similarity.topk(k, dim=1)
    one_hot = F.one_hot(bank_labels[index], classes).to(similarity.dtype)
    votes = (one_hot * (nearest / temperature).exp().unsqueeze(2)).sum(1)
    order = votes.argsort(dim=1, descending=True, stable=True)
    right = order.eq(labels.unsqueeze(1))
    return right[:, 0].double().mean().item(), right[:, : min(5, k)].any(1).double().mean().item()


def case(bank, queries, dim, classes, ks, temperature, spread):
    bank_labels, labels = labels_of(bank, classes), labels_of(queries, classes)
    args = (features_of(bank_labels, dim, classes, 2, spread), bank_labels, features_of(labels, dim, classes, 3, spread), labels, classes)
    found = {k: knn(*args, k, temperature) for k in ks}
    return {
        "bank": bank, "queries": queries, "dim": dim, "classes": classes, "k": ks, "temperature": temperature, "spread": spread,
        "top1": {str(k): top1 for k, (top1, _) in found.items()},
        "top5": {str(k): top5 for k, (_, top5) in found.items()},
    }


finish("knn", {
    "many classes": case(1500, 400, 24, 40, [1, 10, 20, 100, 200], 0.07, 1.3),
    "few queries": case(300, 37, 16, 7, [5, 20, 300], 0.07, 1.5),
    "one class": case(50, 10, 8, 1, [10], 0.07, 1.0),
    "hot": case(500, 100, 12, 10, [3, 50], 1.0, 2.5),
    "cold": case(500, 100, 12, 10, [3, 50], 0.02, 2.5),
    "fewer classes than five": case(200, 60, 6, 3, [4, 40], 0.07, 2.0),
})
