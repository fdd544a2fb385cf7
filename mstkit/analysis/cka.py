"""Similarity of two representations of the same images: linear centered kernel alignment (CKA).

Kornblith et al. (arXiv 1905.00414), in the unbiased form that may be averaged over mini-batches, Nguyen et al.
(arXiv 2010.15327), equations 2 and 3. Invariant to orthogonal maps, shifts and scale; feature sizes may differ.
"""

from __future__ import annotations

import torch
from torch import Tensor

FEWEST = 4  # the unbiased estimate needs at least this many images per batch


def centered_gram(features: Tensor) -> Tensor:
    """The U-centered Gram matrix of a batch, whose products give unbiased estimates of HSIC.

    With K the Gram matrix without its diagonal, the unbiased HSIC of two batches (2010.15327, equation 2) is the sum
    of the products of their U-centered matrices over n(n - 3) (Székely & Rizzo, arXiv 1310.2926, section 2), where
    U-centering subtracts the means of rows and columns without the diagonal. So only n x n numbers have to be kept per
    layer, however many features it has.

    Args:
        features: (n, …), n at least 4; flattened to one vector per image.

    Returns:
        (n, n) float64, on the CPU.

    Raises:
        ValueError: fewer than four images.
    """
    count = len(features)
    if count < FEWEST:
        raise ValueError(f'CKA needs batches of at least {FEWEST} images, not {count}')
    flat = features.flatten(1).float()
    # U-centering removes the mean anyway; subtracting it first keeps the precision of float32.
    flat = flat - flat.mean(dim=0)
    gram = (flat @ flat.T).double().cpu().fill_diagonal_(0)
    rows = gram.sum(dim=1) / (count - 2)
    centered = gram - rows[:, None] - rows[None, :] + gram.sum() / ((count - 1) * (count - 2))
    return centered.fill_diagonal_(0)


class LinearCKA:
    """CKA of each layer of one network with each layer of another, added up over batches by :meth:`update`.

    The three HSIC are averaged over the batches before the division (2010.15327, equation 3).
    """

    def __init__(self) -> None:
        self.sums: tuple[Tensor, Tensor, Tensor] | None = None

    def update(self, first: Tensor, second: Tensor | None = None) -> None:
        """Adds a batch.

        Args:
            first: (L1, n, n), :func:`centered_gram` of each layer.
            second: (L2, n, n) of the other network for the same images; by default ``first``.
        """
        second = first if second is None else second
        if first.shape[1:] != second.shape[1:]:
            raise ValueError(f'a batch of {first.shape[1]} images cannot be compared with one of {second.shape[1]}')
        count = first.shape[1]
        one, two = first.flatten(1), second.flatten(1)
        scale = count * (count - 3)
        cross = torch.stack([torch.stack([_product(a, b) for b in two]) for a in one])
        own_first, own_second = (torch.stack([_product(a, a) for a in layers]) for layers in (one, two))
        batch = cross / scale, own_first / scale, own_second / scale
        old = self.sums
        self.sums = batch if old is None else (old[0] + batch[0], old[1] + batch[1], old[2] + batch[2])

    def result(self) -> Tensor:
        """(L1, L2) float64, 1 for equal and near 0 for unrelated layers; NaN for a constant layer."""
        if self.sums is None:
            raise ValueError('no features were added')
        cross, one, two = self.sums
        return cross / torch.sqrt(one[:, None] * two[None, :])


def _product(one: Tensor, two: Tensor) -> Tensor:
    """The dot product of two vectors, with a result that does not depend on their order, bit for bit.

    A matrix product sums in another order for each element of the result: CKA of equal layers would then differ
    slightly from 1, and CKA of A and B from that of B and A.
    """
    return (one * two).sum()


def linear_cka(first: Tensor, second: Tensor) -> float:
    """The unbiased linear CKA of two representations of one batch of images, (n, …) and (n, …)."""
    measure = LinearCKA()
    measure.update(centered_gram(first)[None], centered_gram(second)[None])
    return float(measure.result())
