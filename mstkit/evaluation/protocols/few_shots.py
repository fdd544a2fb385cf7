"""Few-shot classification: the choice of a few images per class, and a logistic regression."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from mstkit.errors import UsageError
from mstkit.structures import FeatureBank

DRAWS = ('slices', 'random')


def slice_step(shots: int) -> int:
    """The distance between the starts of AttMask's slices: 5 images for up to 5 shots, else ``shots``."""
    return max(5, shots)


def images_needed(shots: int, draw: str, runs: int) -> int:
    """The number of images that each class must have for all runs."""
    return shots if draw == 'random' else slice_step(shots) * (runs - 1) + shots


def check_shots(labels: Tensor, classes: Sequence[str], shots: int, draw: str, runs: int) -> None:
    """Refuses a class with too few images; raises UsageError.

    Args:
        labels: (M,) int64, of the training images.
        classes: the class names.
        shots, draw, runs: as for :func:`draw_shots`.
    """
    counts = labels.bincount(minlength=len(classes))
    fewest = int(counts.argmin())
    has, needed = int(counts[fewest]), images_needed(shots, draw, runs)
    if has >= needed:
        return
    subject = f'class {classes[fewest]!r} has {has} train images'
    if has < shots:
        raise UsageError(f'{subject}, fewer than the {shots} shots asked for: ask for fewer shots.')
    raise UsageError(
        f'{subject}, and {runs} consecutive slices of {shots} need {needed}: ask for fewer shots or fewer runs, or '
        'only for random draws.'
    )


def draw_shots(labels: Tensor, shots: int, draw: str, runs: int, seed: int = 0) -> Iterator[Tensor]:
    """Chooses the same number of images of each class, several times.

    Args:
        labels: (M,), in file order; every class has enough images (:func:`check_shots`).
        shots: images per class.
        draw: 'slices' takes consecutive files, from file 0, 5, 10 … of each class on (for 10 shots 0, 10, 20 …, for 20
            shots 0, 20, 40 …), the protocol of AttMask (arXiv 2203.12719, low-shot k-NN); 'random' draws without
            replacement, independently in each run.
        runs: the number of choices.
        seed: of the random draws.

    Yields:
        (shots * classes,) indices, sorted, once per run.
    """
    members = [torch.nonzero(labels == label).flatten() for label in labels.unique()]
    generator = torch.Generator().manual_seed(seed)
    for run in range(runs):
        if draw == 'slices':
            start = run * slice_step(shots)
            chosen = [own[start : start + shots] for own in members]
        else:
            chosen = [own[torch.randperm(len(own), generator=generator)[:shots]] for own in members]
        yield torch.cat(chosen).sort().values


def logistic_accuracy(train: FeatureBank, val: FeatureBank, penalty: float = 0.1) -> float:
    """Accuracy in percent of a multinomial logistic regression on the val images.

    On L2-normalized features it minimizes the mean cross-entropy plus ``penalty / 2`` times the squared norm of the
    weights; there is no intercept (the low-shot protocol of iBOT, arXiv 2111.07832).

    Args:
        train: the training images, of at least two classes.
        val: the val images.
        penalty: of the weights; iBOT tries 0.01, 0.1 and 1.
    """
    from sklearn.linear_model import LogisticRegression  # imported here, because the import takes seconds

    # scikit-learn minimizes C times the sum of the losses plus half the squared norm.
    model = LogisticRegression(C=1 / (penalty * len(train.labels)), fit_intercept=False, max_iter=1000)
    rows, queries = (functional.normalize(bank.features.float(), dim=1).numpy() for bank in (train, val))
    model.fit(rows, train.labels.numpy())
    return 100.0 * float((model.predict(queries) == val.labels.numpy()).mean())
