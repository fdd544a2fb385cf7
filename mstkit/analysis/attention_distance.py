"""The averaged attention distance of heads (Dosovitskiy et al., arXiv 2010.11929, appendix D.7)."""

from __future__ import annotations

from torch import Tensor

from mstkit.analysis.patch_attention import (
    Maps,
    PatchAttention,
    distinct_windows,
    pairwise_distances,
    patch_attention,
    reach,
)


class AttentionDistance:
    """The mean over images and queries of ``sum_k A[q, k] · |p_q - p_k|``, in pixels, for each head of a block.

    Batches are added by :meth:`update`; only N sums are kept.
    """

    def __init__(self) -> None:
        self.total: Tensor | float = 0.0
        self.queries = 0

    def update(self, patches: PatchAttention) -> None:
        """Adds a batch; if a row sums to less than one, the missing attention counts as distance 0."""
        distances = pairwise_distances(patches.positions)
        # (P, P), or (W, 1, P, P) to broadcast over heads. One sum per window first: float32 is enough for that.
        distances = distances if distances.ndim == 2 else distances[:, None]
        self.total = self.total + (patches.weights * distances).sum(dim=(2, 3)).double().sum(dim=0).cpu()
        self.queries += patches.queries

    def result(self) -> Tensor:
        """(N,) float64, in pixels."""
        if not isinstance(self.total, Tensor):
            raise ValueError('no attention was added')
        return self.total / self.queries


def attention_distance(maps: Maps, renormalize: bool = True) -> Tensor:
    """The averaged attention distance of each head for one batch: (N,) float64, in pixels.

    Args:
        maps: of one block.
        renormalize: see :func:`mstkit.analysis.patch_attention.patch_attention`. Without it, attention to the CLS token
            reduces the distance.
    """
    measure = AttentionDistance()
    measure.update(patch_attention(maps, renormalize))
    return measure.result()


def uniform_distance(patches: PatchAttention) -> float:
    """The attention distance of uniform attention over all patches in reach, in pixels.

    For ViT it is the mean distance over all pairs of patches, including pairs of a patch with itself.
    """
    patches = distinct_windows(patches)
    near = reach(patches)
    distances = pairwise_distances(patches.positions).expand(near.shape)
    means = (distances * near).sum(dim=-1) / near.sum(dim=-1).clamp_min(1)
    return float(means[patches.real].double().mean())
