"""Linear probe by DINO's protocol: heads with several learning rates are trained together on frozen features."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mstkit.errors import UsageError
from mstkit.evaluation.protocols.weighted_knn import check_banks
from mstkit.structures import FeatureBank
from mstkit.utils.checks import check_count, check_list, check_number
from mstkit.utils.progress_bar import track

Batches = Callable[[int], Iterable[tuple[Tensor, Tensor]]]
# Logits in memory at once when val images are classified: 64 MiB.
_LOGITS = 2**24


class ProbeResult(NamedTuple):
    """The training curves of heads with R learning rates over E epochs, and the best weights.

    Attributes:
        rates: the learning rates.
        loss: (E, R) float64, mean cross-entropy of the training images in nats, measured while training.
        top1: (E, R) float64, accuracy in percent on the val images after each epoch; NaN if the head was not finite.
        top5: as ``top1``; None if there are at most five classes.
        weight: (R, K, D), of each head after its best epoch.
        bias: (R, K), likewise.
        hits: (R, M) bool, whether each val image is classified correctly after the last epoch; None if not kept.
    """

    rates: tuple[float, ...]
    loss: Tensor
    top1: Tensor
    top5: Tensor | None
    weight: Tensor
    bias: Tensor
    hits: Tensor | None = None

    @property
    def diverged(self) -> tuple[bool, ...]:
        """For each rate, whether its head was not finite after any epoch; such rates are ignored."""
        return tuple(self.top1.isnan().any(dim=0).tolist())

    @property
    def best_epochs(self) -> tuple[int, ...]:
        """The epoch of each rate's highest top-1, from 0; the first one if several are equal."""
        return tuple(self.top1.nan_to_num(-1).argmax(dim=0).tolist())

    @property
    def best_rate(self) -> int:
        """Index of the rate with the highest top-1 in any epoch; the smaller rate if two are equal."""
        usable = [index for index, lost in enumerate(self.diverged) if not lost]
        highest = self.top1.nan_to_num(-1).amax(dim=0).tolist()
        return min(usable, key=lambda index: (-highest[index], self.rates[index]))


def check_rates(rates: Sequence[float]) -> tuple[float, ...]:
    """Returns learning rates as a tuple; raises UsageError unless they are positive and distinct."""
    found = check_list('linear.rates (learning rates)', rates, check_number, above=0)
    if len(set(found)) < len(found):
        raise UsageError(f'linear probe with the learning rates {list(rates)}: each must occur only once.')
    return tuple(found)


@torch.no_grad()
def train_heads(
    batches: Batches,
    val: FeatureBank,
    rates: Sequence[float],
    epochs: int = 100,
    seed: int = 0,
    momentum: float = 0.9,
    device: torch.device | str = 'cpu',
    progress: bool = True,
) -> ProbeResult:
    """Trains one linear head per learning rate on the same batches, and measures all of them after every epoch.

    DINO's protocol (Caron et al., arXiv 2104.14294): cross-entropy, SGD with momentum and without weight decay, a
    cosine schedule to 0 that is updated once per epoch, initial weights from N(0, 0.01), initial biases 0. All heads
    start from the same weights. They are stored in one matrix, so that one product computes the logits of all rates.
    The heads are independent: one that diverges does not change a bit of the others.

    Args:
        batches: maps the epoch (from 0) to its batches of features (B, D) and labels (B,).
        val: the images on which accuracy is measured; its classes are those of the heads.
        rates: initial learning rates of SGD (not per 256 images).
        epochs: number of passes over the training images.
        seed: of the initial weights.
        momentum: of SGD.
        device: for the computation.
        progress: show a progress bar of epochs; off if ``batches`` shows its own.

    Raises:
        UsageError: a setting out of range, an epoch without images, or all rates diverged.
    """
    rates = check_rates(rates)
    check_count('epochs of a linear probe', epochs, 1)
    heads = _Heads(val.features.shape[1], len(val.classes), rates, momentum, seed, torch.device(device))
    size = (epochs, len(rates))
    loss, top1, top5 = (torch.full(size, math.nan, dtype=torch.float64) for _ in range(3))
    best = torch.full((len(rates),), -1.0, dtype=torch.float64)
    best_weight, best_bias = heads.weight.clone(), heads.bias.clone()
    for epoch in track(range(epochs), epochs, f'linear probe, {len(rates)} learning rates', enabled=progress):
        factor = 0.5 * (1 + math.cos(math.pi * epoch / epochs))
        seen, total = 0, torch.zeros(len(rates), dtype=torch.float64)
        for features, labels in batches(epoch):
            total += len(labels) * heads.step(features.to(device).float(), labels.to(device), factor).double().cpu()
            seen += len(labels)
        if seen == 0:
            raise UsageError(f'linear probe: epoch {epoch + 1} has no images to train on.')
        loss[epoch] = total / seen
        top1[epoch], top5[epoch] = heads.accuracy(val)
        better = top1[epoch].nan_to_num(-1) > best
        best[better] = top1[epoch][better]
        where = better.to(device)
        best_weight[:, where], best_bias[where] = heads.weight[:, where], heads.bias[where]
    if bool(top1.isnan().any(dim=0).all()):
        raise UsageError(
            f'linear probe: every learning rate diverged ({", ".join(f"{rate:g}" for rate in rates)}); give smaller '
            'ones.'
        )
    return ProbeResult(
        rates,
        loss,
        top1,
        top5 if len(val.classes) > 5 else None,
        best_weight.permute(1, 2, 0).cpu(),
        best_bias.cpu(),
        heads.hits(val),
    )


def shuffled_batches(bank: FeatureBank, val: FeatureBank, batch_size: int, seed: int = 0) -> Batches:
    """Batches of stored features, shuffled in every epoch; the last one of an epoch may be smaller.

    Args:
        bank: features of the training images.
        val: features of the val images; checked to fit ``bank``.
        batch_size: images per step.
        seed: determines the order, together with the epoch.

    Raises:
        UsageError: as :func:`mstkit.evaluation.protocols.weighted_knn.check_banks`, or a batch size below 1.
    """
    check_banks(bank, val)
    check_count('batch_size of a linear probe', batch_size, 1)

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        for rows in torch.randperm(len(bank.labels), generator=generator).split(batch_size):
            yield bank.features[rows], bank.labels[rows]

    return batches


class Standardization(NamedTuple):
    """Mean 0 and variance 1 of each channel, and how a head of such features becomes one of the features themselves.

    Attributes:
        mean: (D,), of the features.
        scale: (D,), one divided by their standard deviation (eps 1e-6, as in MAE's batch normalization).
    """

    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Standardization:
        """That of features (N, D)."""
        variance, mean = torch.var_mean(features.double(), dim=0, correction=0)
        return cls(mean.float(), (variance + 1e-6).rsqrt().float())

    def __call__(self, features: Tensor) -> Tensor:
        """Standardizes features (B, D)."""
        return (features.float() - self.mean.to(features.device)) * self.scale.to(features.device)

    def folded(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The weight (K, D) and bias (K,) that give the same logits of the features as they are."""
        weight = weight * self.scale
        return weight, bias - weight @ self.mean


def regrouped(batches: Iterable[tuple[Tensor, Tensor]], batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Re-batches (features, labels) to SGD's batch size, in the same order; the last batch may be smaller."""
    features: list[Tensor] = []
    labels: list[Tensor] = []
    for part, part_labels in batches:
        features.append(part)
        labels.append(part_labels)
        while sum(map(len, labels)) >= batch_size:
            all_features, all_labels = torch.cat(features), torch.cat(labels)
            yield all_features[:batch_size], all_labels[:batch_size]
            features, labels = [all_features[batch_size:]], [all_labels[batch_size:]]
    if sum(map(len, labels)):
        yield torch.cat(features), torch.cat(labels)


class _Heads:
    """R linear heads side by side: ``weight`` (D, R, K), ``bias`` (R, K), and SGD's momentum of both.

    The gradient is computed explicitly (softmax minus one-hot), with one matrix product forward and one backward.
    """

    def __init__(
        self, size: int, classes: int, rates: tuple[float, ...], momentum: float, seed: int, device: torch.device
    ) -> None:
        first = torch.randn(classes, size, generator=torch.Generator().manual_seed(seed)) * 0.01
        self.weight = first.T[:, None].repeat(1, len(rates), 1).to(device)
        self.bias = torch.zeros(len(rates), classes, device=device)
        self.weight_speed, self.bias_speed = torch.zeros_like(self.weight), torch.zeros_like(self.bias)
        self.rates = torch.tensor(rates, device=device)[:, None]
        self.momentum = momentum

    def logits(self, features: Tensor) -> Tensor:
        """Logits (B, R, K) of features (B, D), with one matrix product."""
        return (features @ self.weight.flatten(1)).unflatten(1, self.bias.shape) + self.bias

    def step(self, features: Tensor, labels: Tensor, factor: float) -> Tensor:
        """One step of SGD on every head, with ``factor`` times its rate; returns the losses (R,) before the step."""
        logs = functional.log_softmax(self.logits(features), dim=2)
        rows = torch.arange(len(labels), device=labels.device)
        loss = -logs[rows, :, labels].mean(dim=0)
        slope = logs.exp_()
        slope[rows, :, labels] -= 1
        slope /= len(labels)
        self.weight_speed.mul_(self.momentum).add_((features.T @ slope.flatten(1)).view_as(self.weight))
        self.bias_speed.mul_(self.momentum).add_(slope.sum(dim=0))
        self.weight -= factor * self.rates * self.weight_speed
        self.bias -= factor * self.rates * self.bias_speed
        return loss

    def hits(self, bank: FeatureBank) -> Tensor:
        """Whether each head classifies each image correctly, (R, M) bool on the CPU."""
        chunk = max(1, _LOGITS // self.bias.numel())
        found = []
        for start in range(0, len(bank.labels), chunk):
            best = self.logits(bank.features[start : start + chunk].to(self.weight.device).float()).argmax(dim=2).cpu()
            found.append(best == bank.labels[start : start + chunk, None])
        return torch.cat(found).T.contiguous()

    def accuracy(self, bank: FeatureBank) -> tuple[Tensor, Tensor]:
        """Top-1 and top-5 in percent, each (R,) float64 on the CPU; NaN for heads with a logit that is not finite."""
        chunk = max(1, _LOGITS // self.bias.numel())
        hits = torch.zeros(2, len(self.bias), dtype=torch.int64)
        finite = torch.ones(len(self.bias), dtype=torch.bool)
        top = min(5, self.bias.shape[1])
        for start in range(0, len(bank.labels), chunk):
            logits = self.logits(bank.features[start : start + chunk].to(self.weight.device).float())
            labels = bank.labels[start : start + chunk].to(logits.device)
            finite &= torch.isfinite(logits).all(dim=2).all(dim=0).cpu()
            hit = logits.topk(top, dim=2).indices == labels[:, None, None]
            hits += torch.stack([hit[:, :, 0].sum(dim=0), hit.any(dim=2).sum(dim=0)]).cpu()
        percent = 100.0 * hits.double() / len(bank.labels)
        percent[:, ~finite] = math.nan
        return percent[0], percent[1]
