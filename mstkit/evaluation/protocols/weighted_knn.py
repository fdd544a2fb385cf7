"""Accuracy of a weighted k-nearest-neighbor classifier on frozen features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from mmengine.logging import print_log

from mstkit.errors import UsageError
from mstkit.evaluation.protocols.nearest_neighbors import nearest
from mstkit.structures import FeatureBank
from mstkit.utils.checks import check_count, check_list, check_number

DEFAULT_KS = (10, 20, 100, 200)
_VOTERS = 1024  # val images per table of votes


def check_ks(ks: Sequence[int]) -> tuple[int, ...]:
    """Refuses numbers of neighbors that are invalid for any bank.

    Raises:
        UsageError: empty, or an entry that is not a positive int.
    """
    return tuple(check_list('k-NN: ks', ks, check_count, 1))


def clip_ks(ks: Sequence[int], bank_size: int) -> tuple[int, ...]:
    """Limits each k to the number of images in the bank; returns them sorted and without duplicates."""
    return tuple(sorted({min(k, bank_size) for k in check_ks(ks)}))


def check_classes(train: Sequence[str], val: Sequence[str]) -> None:
    """Refuses two lists of class names that differ; the message lists the differences. Raises UsageError."""
    if tuple(train) == tuple(val):
        return
    missing = [name for name in train if name not in val]
    added = [name for name in val if name not in train]
    detail = 'the same names, but in another order'
    if missing or added:
        detail = f'only in train: {_listed(missing)}; only in val: {_listed(added)}'
    raise UsageError(f'train and val have different classes ({detail}); k-NN needs the same classes in both.')


def check_finite(features: torch.Tensor, images: str) -> None:
    """Raises UsageError if some features (M, D) are not finite; ``images`` names the images in the message."""
    broken = int((~torch.isfinite(features)).any(dim=1).sum())
    if broken:
        raise UsageError(
            f'{broken} of {len(features)} {images} have features that are not finite: '
            'the weights are broken (diverged training, or a damaged checkpoint).'
        )


def check_banks(train: FeatureBank, val: FeatureBank) -> None:
    """Refuses two banks that cannot be compared.

    Raises:
        UsageError: other classes, another order of the classes, other feature sizes, no images, or features that are
            not finite.
    """
    check_classes(train.classes, val.classes)
    for name, bank in (('train', train), ('val', val)):
        if len(bank.features) == 0:
            raise UsageError(f'the {name} set has no images; k-NN needs at least one.')
        check_finite(bank.features, f'{name} images')
    if train.features.shape[1] != val.features.shape[1]:
        raise UsageError(
            f'train features have {train.features.shape[1]} numbers per image and val features '
            f'{val.features.shape[1]}; both must come from the same network.'
        )


def knn_accuracy(
    train: FeatureBank,
    val: FeatureBank,
    ks: Sequence[int] = DEFAULT_KS,
    temperature: float = 0.07,
    chunk: int = 16384,
    device: torch.device | str | None = None,
) -> dict[str, float]:
    """Classifies each val image by its k nearest train images.

    Features are L2-normalized; the neighbors are the images with the highest cosine similarity s; each votes for its
    class with weight exp(s / temperature) (Wu et al., arXiv 1805.01978; the protocol of DINO, iBOT and AttMask). Exact:
    every pair is compared, in blocks that bound memory (:mod:`mstkit.evaluation.protocols.nearest_neighbors`).

    Args:
        train: the bank, M images.
        val: the images to classify.
        ks: numbers of neighbors; one larger than M becomes M, which is logged.
        temperature: of the votes.
        chunk: val images whose neighbors are in memory at once, 24 bytes per neighbor. The train images are normalized
            once per chunk.
        device: for the computation; by default that of the features.

    Returns:
        Percent by ``k{k}_top1``, and by ``k{k}_top5`` if there are more than five classes. A class without votes never
        counts as predicted, so that top-5 is meaningful for k < 5.

    Raises:
        UsageError: a k or a temperature out of range, or banks that do not fit each other.
    """
    found = knn_hits(train, val, ks, temperature, chunk, device)
    return {name: 100.0 * int(hits.sum()) / len(hits) for name, hits in found.items()}


@torch.no_grad()
def knn_hits(
    train: FeatureBank,
    val: FeatureBank,
    ks: Sequence[int] = DEFAULT_KS,
    temperature: float = 0.07,
    chunk: int = 16384,
    device: torch.device | str | None = None,
) -> dict[str, torch.Tensor]:
    """Whether each val image is classified correctly by its k nearest train images.

    Arguments and errors are those of :func:`knn_accuracy`.

    Returns:
        (M,) bool on the CPU, in the order of ``val``, by the names of :func:`knn_accuracy`.
    """
    check_number('the temperature of k-NN', temperature, above=0)
    check_count('the chunk of k-NN', chunk, 1)
    check_ks(ks)
    check_banks(train, val)
    clipped = clip_ks(ks, len(train.features))
    if max(ks) > len(train.features):
        print_log(
            f'k-NN: the bank has {len(train.features)} images, so k {list(ks)} becomes {list(clipped)}.',
            logger='current',
        )
    target_device = train.features.device if device is None else torch.device(device)
    names = [f'k{k}_top1' for k in clipped]
    if len(train.classes) > 5:
        names += [f'k{k}_top5' for k in clipped]
    correct: dict[str, list[torch.Tensor]] = {name: [] for name in names}
    train_labels = train.labels.to(target_device)
    for start in range(0, len(val.features), chunk):
        found = nearest(val.features[start : start + chunk], train.features, clipped[-1], target_device)
        targets = val.labels[start : start + chunk].to(target_device)
        # The table of votes (images, classes) can be large, so it is made for a few images at a time.
        for similarity, indices, expected in zip(*(rows.split(_VOTERS) for rows in (*found, targets)), strict=True):
            voters = train_labels[indices]
            # Relative to the best match, which does not change the ranking of classes and cannot overflow.
            weights = ((similarity - similarity[:, :1]) / temperature).exp()
            for k in clipped:
                votes = weights.new_zeros(len(expected), len(train.classes))
                votes.scatter_add_(1, voters[:, :k], weights[:, :k])
                for width, name in ((1, f'k{k}_top1'), (5, f'k{k}_top5')):
                    if name in correct:
                        best = votes.topk(width, dim=1)
                        hit = (best.indices == expected[:, None]) & (best.values > 0)
                        correct[name].append(hit.any(dim=1).cpu())
    return {name: torch.cat(parts) for name, parts in correct.items()}


def best_k(accuracy: Mapping[str, float]) -> tuple[int, float]:
    """Finds the number of neighbors with the highest top-1 accuracy; the smaller one if two are equal.

    Args:
        accuracy: result of :func:`knn_accuracy`.

    Returns:
        k and its percentage.
    """
    top1 = {int(name[1 : -len('_top1')]): value for name, value in accuracy.items() if name.endswith('_top1')}
    return min(top1.items(), key=lambda item: (-item[1], item[0]))


def _listed(names: Sequence[str], shown: int = 5) -> str:
    """Lists at most ``shown`` names, and the number of further ones."""
    if not names:
        return 'none'
    more = f' and {len(names) - shown} more' if len(names) > shown else ''
    return ', '.join(names[:shown]) + more
