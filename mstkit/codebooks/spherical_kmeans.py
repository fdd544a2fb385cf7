"""k-means on the unit sphere: centers are directions, and the nearest one makes the smallest angle.

scikit-learn's ``KMeans`` assigns alike where all centers have length 1, but its centers are means and shorter the wider
their cluster is, so that assignment by its Euclidean distance is not by the angle; nor can it be stopped and resumed
between two steps. The tests hold this one against it where clusters are apart, and there both agree.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from mstkit.models.tokenizers import nearest_codes

CHUNK = 1 << 15  # features that are compared with all centers at once: bounds the memory
SEEDING = 32  # of so many features per code the first centers are chosen


class SphericalKMeans:
    """k-means by cosine, a step at a time; its state can be kept and resumed to the bit.

    With all features in a step it is Lloyd's algorithm with centers of length 1 (Dhillon and Modha, 2001). With fewer
    it is its mini-batch form (Sculley, WWW 2010): a center moves toward the mean of its new features by their share of
    all that it has had. A code that got nothing, in a step of the first or in a pass over all features of the second,
    is dead: it starts again at a feature that is far from its center.

    Args:
        features: (N, D) float32, of length 1; on the CPU.
        codes: K, at most N.
        seed: of all that is random, together with the number of the step.
        init: 'k-means++', features drawn by their distance from those before (Arthur and Vassilvitskii, 2007), or
            'random' ones.
        batch: features per step; N or more for all.
        device: where distances are computed.
        centers: to begin with, in place of ``init``.
        tolerance: a step over all features whose mean squared move of centers is at most this is the last.

    Attributes:
        centers: (K, D), of length 1.
        step: steps done.
        restarted: how often a dead code started again.
        at_rest: whether the last step over all features moved next to nothing.
    """

    def __init__(
        self,
        features: Tensor,
        codes: int,
        seed: int = 0,
        init: Literal['k-means++', 'random'] = 'k-means++',
        batch: int = 1 << 18,
        device: torch.device | str = 'cpu',
        centers: Tensor | None = None,
        tolerance: float = 1e-5,
    ) -> None:
        self.features, self.codes, self.seed, self.device = features, codes, seed, torch.device(device)
        self.batch, self.tolerance = min(batch, len(features)), tolerance
        self.centers = initial_centers(features, codes, seed, init) if centers is None else centers.clone()
        self.step, self.restarted, self.at_rest = 0, 0, False
        self.mass = torch.zeros(codes, dtype=torch.int64)  # features that each center has had, of mini-batches
        self.lately = torch.zeros(codes, dtype=torch.int64)  # those of this pass over all features

    @property
    def steps_per_pass(self) -> int:
        """Steps in which every feature is seen once."""
        return len(self.features) // self.batch

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs besides features and settings."""
        names = ('centers', 'step', 'restarted', 'at_rest', 'mass', 'lately')
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where :meth:`state_dict` was taken."""
        for name, value in state.items():
            setattr(self, name, value.clone() if isinstance(value, Tensor) else value)

    def advance(self) -> float:
        """One step; gives the mean cosine between features and their centers before it."""
        chosen = self._chosen()
        sums, counts, similarity = self._assign(chosen)
        before = self.centers
        if self.steps_per_pass == 1:
            self.centers = _directions(sums, before)
            dead = counts == 0
        else:
            self.mass += counts
            self.lately += counts
            share = counts / self.mass.clamp_min(1)
            means = sums / counts.clamp_min(1)[:, None]
            self.centers = _directions(before + share[:, None] * (means - before), before)
            whole = (self.step + 1) % self.steps_per_pass == 0
            dead = (self.lately == 0) & whole
            if whole:
                self.lately.zero_()
        self._restart(dead, chosen, similarity)
        still = self.steps_per_pass == 1 and not dead.any()
        self.at_rest = still and float((self.centers - before).square().sum(dim=1).mean()) <= self.tolerance
        self.step += 1
        return float(similarity.mean())

    def counts(self) -> Tensor:
        """How many of all features each code has now, (K,) int64."""
        parts = [nearest_codes(part, self.centers) for part in self.features.split(CHUNK)]
        return torch.bincount(torch.cat(parts), minlength=self.codes)

    def _chosen(self) -> Tensor:
        """The features of this step; those of a pass are a random order of all."""
        if self.steps_per_pass == 1:
            return self.features
        number, place = divmod(self.step, self.steps_per_pass)
        order = torch.randperm(len(self.features), generator=keyed(self.seed, 1, number))
        return self.features[order[place * self.batch :][: self.batch]]

    def _assign(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sums (K, D) and counts (K,) of the features of each code, and their cosines with its center, (N,)."""
        sums, cosines, found = torch.zeros_like(self.centers), [], []
        centers = self.centers.to(self.device)
        for part in features.split(CHUNK):
            best, ids = (part.to(self.device) @ centers.T).max(dim=1)
            ids = ids.cpu()
            sums.index_add_(0, ids, part)  # on the CPU, where the order of adding is always the same
            cosines.append(best.cpu())
            found.append(ids)
        return sums, torch.bincount(torch.cat(found), minlength=self.codes), torch.cat(cosines)

    def _restart(self, dead: Tensor, features: Tensor, similarity: Tensor) -> None:
        """Puts dead codes on features that are drawn by how far they are from their centers."""
        count = int(dead.sum())
        if not count:
            return
        far = (1 - similarity).clamp_min(1e-9)
        part = torch.arange(len(far))
        if len(far) > CHUNK * 64:  # torch draws of at most 2**24 at once
            part = torch.randperm(len(far), generator=keyed(self.seed, 3, self.step))[: CHUNK * 64]
        drawn = torch.multinomial(far[part], count, generator=keyed(self.seed, 2, self.step))
        self.centers = self.centers.clone()
        self.centers[dead] = features[part[drawn]]
        self.mass[dead] = 0
        self.restarted += count


def initial_centers(
    features: Tensor, codes: int, seed: int = 0, init: Literal['k-means++', 'random'] = 'k-means++'
) -> Tensor:
    """The first centers, all of them features: (K, D).

    Args:
        features: (N, D), of length 1.
        codes: K, at most N.
        seed: of the draws.
        init: see :class:`SphericalKMeans`; 'k-means++' looks at no more than 32 K features, drawn at random.
    """
    generator = keyed(seed, 0, 0)
    order = torch.randperm(len(features), generator=generator)
    if init == 'random':
        return features[order[:codes]].clone()
    pool = features[order[: SEEDING * codes]]
    chosen = torch.zeros(codes, dtype=torch.int64)
    distance = 1 - pool @ pool[0]  # half of the squared distance
    for number in range(1, codes):
        weights = distance.clamp_min(0)
        if not weights.any():  # every feature is a center already: copies of one
            weights = torch.ones_like(weights)
        chosen[number] = torch.multinomial(weights, 1, generator=generator)[0]
        distance = torch.minimum(distance, 1 - pool @ pool[chosen[number]])
    return pool[chosen].clone()


def keyed(seed: int, purpose: int, number: int) -> torch.Generator:
    """A generator that depends on what it is for and nothing else."""
    return torch.Generator().manual_seed((seed * 1_000_003 + purpose) * 1_000_003 + number)


def _directions(vectors: Tensor, otherwise: Tensor) -> Tensor:
    """Vectors at length 1; where there is none, what was before."""
    return torch.where(vectors.norm(dim=1, keepdim=True) > 1e-12, F.normalize(vectors, dim=1), otherwise)
