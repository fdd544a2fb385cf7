"""Masked prediction: a target (pixels, HOG, token ids …) of each hidden patch is predicted from the visible ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.models.decoders import TokenDecoder, build_decoder
from mstkit.models.objectives.objective import Objective, Surroundings
from mstkit.models.targets import Target, build_target
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput, VisibleOutput
from mstkit.utils.checks import check_number

if TYPE_CHECKING:  # for annotations only: importing it would be circular
    from mstkit.models.step import Step


@MODELS.register_module()
class MaskedPrediction(Objective):
    """Mean prediction error over all hidden patches of a batch (MAE, SimMIM, BEiT, MaskFeat, data2vec …).

    The encoder gets [MASK] tokens in place of hidden patches, or the visible patches alone, see ``encoder_sees`` of
    :class:`Pretrainer`. Every hidden patch of a batch has the same weight, whichever image it belongs to; the error of
    a patch is the mean over its D values. If nothing is hidden, the loss is zero.

    Args:
        target: what is predicted, a :class:`Target`, for example ``dict(type='Pixels', norm=True)``; its
            ``patch_size`` defaults to the backbone's stride.
        decoder: maps tokens to predictions, a :class:`TokenDecoder`, for example ``dict(type='ViTDecoder')``; its sizes
            default to those of the backbone and the target. The teacher has none.
        loss: 'mse', 'l1' or 'smooth_l1' of values; 'cross_entropy' of the ids of a discrete target.
        on: the patches that the loss is computed on: 'hidden', or 'all'.
        beta: the error at which 'smooth_l1' changes from quadratic to linear.
        weight: weight of the loss in the sum.
        surroundings: see :class:`Objective`.

    Raises:
        UsageError: no masker; a target, a decoder and a loss that do not match.
    """

    decoder: TokenDecoder
    target: Target

    def __init__(
        self,
        target: dict | Target,
        decoder: dict,
        surroundings: Surroundings,
        loss: Literal['mse', 'l1', 'smooth_l1', 'cross_entropy'] = 'mse',
        on: Literal['hidden', 'all'] = 'hidden',
        beta: float = 1.0,
        weight: float = 1.0,
    ) -> None:
        super().__init__(surroundings, weight)
        if on == 'hidden' and surroundings.masker is None:
            raise UsageError(
                f'{surroundings.method} predicts hidden patches, but has no masker: give one, such as '
                "dict(type='RandomMasker', ratio=0.75), or on='all'"
            )
        backbone, visible = surroundings.backbone, surroundings.encoder_sees == 'visible'
        self.target = build_target(target, patch_size=backbone.stride)
        self.target.prepare(backbone)
        if surroundings.normalization is not None:
            self.target.set_normalization(*surroundings.normalization)
        if self.target.patch_size != backbone.stride:
            raise UsageError(
                f'target.patch_size is {self.target.patch_size}, but a token of {type(backbone).__name__} covers '
                f'{backbone.stride} px: leave it out'
            )
        if self.target.discrete != (loss == 'cross_entropy'):
            kind, fitting = ('ids', 'cross_entropy') if self.target.discrete else ('values', 'mse, l1 or smooth_l1')
            raise UsageError(f'loss is {loss!r}, but {type(self.target).__name__} gives {kind}: give {fitting}')
        self.decoder = build_decoder(
            decoder,
            in_channels=backbone.feature_dims,
            out_channels=self.target.dims,
            class_token=backbone.num_extra_tokens > 0,
            visible_only=visible,
        )
        if self.decoder.out_channels != self.target.dims:
            raise UsageError(
                f'decoder.out_channels is {self.decoder.out_channels}, but {type(self.target).__name__} has '
                f'{self.target.dims} values per patch: leave it out'
            )
        self.loss, self.on, self.beta = loss, on, check_number('MaskedPrediction.beta', beta, above=0)
        self.teacher_needs, self.teacher_layers = self.target.teacher_needs, self.target.teacher_layers
        self.student_needs = 'hidden' if self.decoder.per_patch and on == 'hidden' else 'all'
        if visible:
            self.student_needs = 'visible'

    def forward(self, step: Step) -> Tensor:
        """See :meth:`Objective.forward`."""
        seen = self._seen(step)
        target = self._target(step, seen.grid)
        if self.decoder.per_patch and self.on == 'hidden' and isinstance(seen, TokenOutput):
            # Predictions that no loss reads cost most where there are many ids: 8192 in BEiT.
            rows = seen.hidden  # None of a Swin, and where another objective reads all tokens
            if rows is None:
                rows = self._hidden(step).flatten().nonzero().squeeze(1)  # (M,)
            tokens = seen.patch_tokens.flatten(0, 1).index_select(0, rows)  # (M, C)
            predicted = self.decoder(seen._replace(patch_tokens=tokens[None]))
            errors = patch_errors(predicted, target.flatten(0, 1).index_select(0, rows)[None], self.loss, self.beta)
            loss = errors.sum() / max(len(rows), 1)
        else:
            errors = patch_errors(self.decoder(seen), target, self.loss, self.beta)
            loss = errors.mean() if self.on == 'all' else weighted_mean(errors, self._hidden(step))
        self.statistics = {'masked_prediction': loss.detach()}
        return loss

    def restore(self, step: Step) -> Tensor | None:
        """See :meth:`Objective.restore`; patches without a loss are copied from the image."""
        seen = self._seen(step)
        return self._drawn(self.decoder(seen), step, seen.grid)

    @property
    def restored_with(self) -> str:
        """See :attr:`Objective.restored_with`."""
        return self.target.shown_with

    def show_target(self, step: Step) -> Tensor | None:
        """See :meth:`Objective.show_target`."""
        if self.target.shows_images:
            return None
        seen = self._seen(step)
        values = self._target(step, seen.grid)
        values = F.one_hot(values, self.target.dims).float() if self.target.discrete else values
        return self._drawn(values, step, seen.grid)

    def _drawn(self, values: Tensor, step: Step, grid: tuple[int, int]) -> Tensor | None:
        """Patch values (B, L, D) as images (B, 3, H, W); patches without a loss are copied from the step's images."""
        made = self.target.to_images(values, step.images, grid)
        if made is None or self.on == 'all':
            return made
        hidden = self._hidden(step).view(-1, 1, *grid)  # (B, 1, h, w)
        side = self.target.patch_size
        hidden = hidden.repeat_interleave(side, 2).repeat_interleave(side, 3)  # (B, 1, H, W)
        return torch.where(hidden, made, step.images.to(made.dtype))

    @torch.no_grad()
    def _target(self, step: Step, grid: tuple[int, int]) -> Tensor:
        return self.target(step.images, grid, None if self.teacher_needs is None else step.teacher)

    @staticmethod
    def _seen(step: Step) -> TokenOutput | VisibleOutput:
        return step.visible if step.model.encoder_sees == 'visible' else step.student

    @staticmethod
    def _hidden(step: Step) -> Tensor:
        """The flat mask, (B, L) bool."""
        assert step.mask is not None
        return step.mask.flatten(1)


def patch_errors(predicted: Tensor, target: Tensor, loss: str, beta: float = 1.0) -> Tensor:
    """The error of each patch, in float32.

    Args:
        predicted: (B, L, D).
        target: (B, L, D), or (B, L) ids.
        loss: see :class:`MaskedPrediction`.
        beta: likewise.

    Returns:
        (B, L): means over the D values, or cross-entropies in nats.
    """
    predicted = predicted.float()
    if loss == 'cross_entropy':
        return F.cross_entropy(predicted.transpose(1, 2), target, reduction='none')
    if loss == 'mse':
        errors = F.mse_loss(predicted, target, reduction='none')
    elif loss == 'l1':
        errors = F.l1_loss(predicted, target, reduction='none')
    else:
        errors = F.smooth_l1_loss(predicted, target, reduction='none', beta=beta)
    return errors.mean(dim=-1)


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of values, (B, L) both, weights >= 0; zero if all weights are zero."""
    weights = weights.to(values.dtype)
    total = weights.sum()
    return (values * weights).sum() / total.where(total > 0, 1.0)
