"""CL-MAE's objective: a network that learns what to hide, first with the encoder and then against it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.models.backbones import MaskedBackbone
from mstkit.models.building import build_of_kind
from mstkit.models.maskers import Masker
from mstkit.models.maskers.functional import cell_means
from mstkit.models.masking_transformer import MaskingTransformer
from mstkit.models.objectives.objective import Objective, Surroundings, source_of_errors
from mstkit.registry import MODELS
from mstkit.structures import Progress
from mstkit.utils.checks import check_list, check_number, check_size

if TYPE_CHECKING:  # for annotations only: importing it would be circular
    from mstkit.models.step import Step

RATIO = 0.75  # CL-MAE's
SPREAD = 0.12  # standard deviation of the Gaussian that keeps visibilities away from 1/2
FALL = 0.1  # how fast the loss of a pair of images falls with the distance of their visibilities
DECIDED = 0.1  # a visibility is decided if it is so near to 0 or 1


@MODELS.register_module()
class CurriculumMasking(Objective):
    """Learns how visible each patch of an image is to be, easy masks first, hard ones later (CL-MAE, Madan et al.,
    WACV 2024, arXiv 2308.16572).

    A masking network gives each patch a visibility p in (0, 1) from the encoder's patch embeddings, and
    :class:`LearnedMaskGuide` tells a masker to hide the patches of the smallest p. This objective trains the network,
    and nothing else, by a pass of the student in which every patch is visible in part: its embedding times p where
    hidden patches are left out (MAE), mixed with the [MASK] embedding where they are replaced by it. With the error e
    that another objective, of MAE or iBOT for example, has of each patch, the loss is

        f · Σ (1 − p) e / Σ (1 − p)  +  ``gauss_weight`` · mean of exp(−(p − ½)² / (2 · 0.12²)) · 0.12 · sqrt(2π)
        + ``kl_weight`` · mean over images of KL(p̄ ‖ 1 − ``ratio``)  +  ``diversity_weight`` · mean over pairs of
        images of exp(−0.1 · ‖p_i − p_j‖).

    The second term drives p to 0 or 1, the third, of Bernoulli variables with p̄ the mean of an image, to the share of
    visible patches, the fourth makes masks of images differ; pairs are those of a process. The factor f goes from 1,
    where the network helps the student, to −1, where it works against it: with e epochs done of E it is at 2e/E of the
    way, in the second half at 2(e + 1)/E.

    CL-MAE's code takes two optimizer steps by turns, with the masking network frozen in one and everything else in the
    other. Here both have gradients of their own in one backward pass, of the weights from before the step: the gradient
    of the error is taken with respect to p alone, at once, and reaches no weight of encoder and decoder.

    Args:
        network: arguments of the :class:`MaskingTransformer`, or of a subclass that ``type`` names; ``lr_mult`` is its
            learning rate as a multiple of the model's.
        of: the key of the objective whose errors count, which comes before this one: a :class:`MaskedPrediction` or a
            :class:`PatchDistillation`. None for the first of them.
        ratio: the share of the patches that is to be hidden. None for the masker's, the middle of a range; for a masker
            without a share CL-MAE's 0.75.
        factor: f at the start and at the end of the run.
        gauss_weight: see above.
        kl_weight: see above.
        diversity_weight: see above.
        image_size: side of the global views in pixels; None for that for which the backbone was built (``img_size``).
        weight: weight of the loss in the sum.
        surroundings: see :class:`Objective`.

    Raises:
        UsageError: no objective with errors before this one; a masking network that is none; a backbone that was built
            for no image size, without ``image_size``; (:meth:`check_views`) views of another size.
    """

    teaches_pooled = False
    comes_last = True

    def __init__(
        self,
        surroundings: Surroundings,
        network: Mapping[str, Any] | None = None,
        of: str | None = None,
        ratio: float | None = None,
        factor: Sequence[float] = (1.0, -1.0),
        gauss_weight: float = 1.0,
        kl_weight: float = 0.1,
        diversity_weight: float = 2.0,
        image_size: int | None = None,
        weight: float = 1.0,
    ) -> None:
        super().__init__(surroundings, weight)
        self.of = source_of_errors('CurriculumMasking', of, surroundings.objectives)
        share = _ratio_of(surroundings.masker) if ratio is None else ratio
        # At 0 and 1, and so near to them that float32 does not tell them apart, the divergence is infinite.
        self.ratio = check_number('CurriculumMasking.ratio', share, 1e-6, 1 - 1e-6)
        ends = check_list('CurriculumMasking.factor', factor, check_number, -1e6, 1e6)
        if len(ends) != 2:
            raise UsageError(f'CurriculumMasking.factor is {factor!r}: give two numbers, of the start and of the end')
        self.ends = (ends[0], ends[1])
        self.gauss_weight = check_number('CurriculumMasking.gauss_weight', gauss_weight, 0, 1e6)
        self.kl_weight = check_number('CurriculumMasking.kl_weight', kl_weight, 0, 1e6)
        self.diversity_weight = check_number('CurriculumMasking.diversity_weight', diversity_weight, 0, 1e6)
        self.grid = _grid_of(surroundings.backbone, image_size)
        self.network = build_of_kind(
            {'type': 'MaskingTransformer', **(network or {})},
            MaskingTransformer,
            'a masking network',
            channels=surroundings.backbone.embedding_dims,
            patches=self.grid[0] * self.grid[1],
        )
        if self.network.patches != self.grid[0] * self.grid[1]:
            raise UsageError(
                f'CurriculumMasking.network.patches is {self.network.patches}, but images have '
                f'{self.grid[0]}x{self.grid[1]}: leave it out'
            )
        self.stride = surroundings.backbone.stride
        self.factor = self.ends[0]

    def set_progress(self, progress: Progress) -> None:
        """See :meth:`Objective.set_progress`: the factor of the coming epoch."""
        epochs = progress.total_steps / progress.steps_per_epoch
        done = progress.epoch + (progress.epoch >= epochs / 2)
        start, end = self.ends
        self.factor = start + (end - start) * min(1.0, done / epochs)

    def forward(self, step: Step) -> Tensor:
        """See :meth:`Objective.forward`."""
        p = self.visibilities(step)
        error = self._error(step, p)
        gauss, kl, alike = pushed_apart(p), divergence(p, 1 - self.ratio), likeness(p)
        seen = p.detach()
        self.statistics = {
            'mask_factor': p.new_full((), self.factor),
            'mask_error': error.detach(),
            'mask_visibility': seen.mean(),
            'mask_decided': ((seen < DECIDED) | (seen > 1 - DECIDED)).float().mean(),
            'mask_likeness': alike.detach(),
        }
        regular = self.gauss_weight * gauss + self.kl_weight * kl + self.diversity_weight * alike
        return self.factor * error + regular

    def visibilities(self, step: Step) -> Tensor:
        """p of the global views of a step, (G*B, L) float32 with gradient to the masking network; computed once."""
        if self.name not in step.visibilities:
            step.visibilities[self.name] = self.visibilities_of(step.model.backbone, step.images)
        return step.visibilities[self.name]

    def visibilities_of(self, backbone: MaskedBackbone, images: Tensor) -> Tensor:
        """p of images (B, 3, H, W): (B, L) float32. Raises UsageError for another size than the network's."""
        self._check_grid(backbone.grid_of(images), int(images.shape[-1]))
        tokens, grid = backbone.patch_embeddings(images)
        # Of a Swin several embeddings lie in a cell of the mask: (B, L', C) to (B, L, C).
        tokens = cell_means(tokens.detach().transpose(1, 2), grid, grid[0] // self.grid[0]).transpose(1, 2)
        return self.network(tokens)

    def _error(self, step: Step, p: Tensor) -> Tensor:
        """The student's mean error with patches as visible as p says; its gradient reaches p, and no other weight."""
        predicting: Any = step.model.objectives[self.of]
        training = torch.is_grad_enabled() and p.requires_grad
        leaf = p.detach().requires_grad_(training)
        errors = predicting.errors_of(step, step.seen_at(leaf.unflatten(1, self.grid)))
        hidden = 1 - leaf
        error = (hidden * errors).sum() / hidden.sum().clamp_min(
            torch.finfo(torch.float32).eps
        )  # nothing may be hidden
        if not training:
            return error
        # Of the sum over patches and not of their mean, which would vanish on its way through fp16.
        patches = float(p.numel())
        (slope,) = torch.autograd.grad(error * patches, leaf)
        return error.detach() + ((p - p.detach()) * (slope / patches)).sum()

    def further_images(self, step: Step) -> dict[str, Tensor]:
        """See :meth:`Objective.further_images`: the images with each patch as visible as the network says."""
        p = self.visibilities(step)
        title = f'visibility ({100 * p.mean().item():.0f} %)'
        return {title: step.images * F.interpolate(p.unflatten(1, self.grid)[:, None], scale_factor=self.stride)}

    def check_views(self, global_size: int, local_size: int | None) -> None:
        """Refuses global views of another size than that which the masking network has outputs for."""
        side = global_size // self.stride
        self._check_grid((side, side), global_size)

    def _check_grid(self, grid: tuple[int, int], size: int) -> None:
        if tuple(grid) != self.grid:
            raise UsageError(
                f'CurriculumMasking: the masking network has an output for each of {self.grid[0]}x{self.grid[1]} '
                f'patches, but views of {size} px have {grid[0]}x{grid[1]}: set model.backbone.img_size={size}, or '
                f'image_size={size} of CurriculumMasking'
            )


def pushed_apart(p: Tensor) -> Tensor:
    """Mean of exp(−(p − ½)² / (2 · 0.12²)) · 0.12 · sqrt(2π): largest at ½, nearly nothing at 0 and 1."""
    return (torch.exp(-((p - 0.5) ** 2) / (2 * SPREAD**2)) * (SPREAD * math.sqrt(2 * math.pi))).mean()


def divergence(p: Tensor, visible: float) -> Tensor:
    """Mean over images of KL(Bernoulli(p̄) ‖ Bernoulli(visible)) in nats, p̄ the mean over an image's patches.

    Args:
        p: (B, L).
        visible: in (0, 1).
    """
    tiny = torch.finfo(torch.float32).eps
    mean = p.mean(dim=1).clamp(tiny, 1 - tiny)  # the logarithm of 0 has no gradient
    return (mean * (mean / visible).log() + (1 - mean) * ((1 - mean) / (1 - visible)).log()).mean()


def likeness(p: Tensor) -> Tensor:
    """Mean over pairs of images of exp(−0.1 · ‖p_i − p_j‖), 1 where all are alike; 0 for a single image.

    Args:
        p: (B, L).
    """
    return torch.exp(-FALL * F.pdist(p)).mean() if len(p) > 1 else p.new_zeros(())


def _ratio_of(masker: Masker | None) -> float:
    """The share that a masker hides, the middle of a range; CL-MAE's if it has none."""
    parts = [] if masker is None else masker.parts()
    shares = {part.ratio for part in parts if part.ratio is not None}
    return sum(shares.pop()) / 2 if len(shares) == 1 else RATIO


def _grid_of(backbone: MaskedBackbone, image_size: int | None) -> tuple[int, int]:
    """The patches of an image. Raises UsageError where nobody says its size."""
    if image_size is not None:
        side = check_size('CurriculumMasking.image_size', image_size, backbone.stride) // backbone.stride
        return side, side
    grid = backbone.built_grid()
    if grid is None:
        raise UsageError(
            f'CurriculumMasking: the masking network has an output for each patch, and {type(backbone).__name__} does '
            'not say how many an image has: give image_size'
        )
    return grid
