"""Masked prediction: a target (pixels, HOG, token ids …) of each hidden patch is predicted from the visible ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.models.backbones import MaskedBackbone
from mstkit.models.backbones.masked_backbone import expand_mask
from mstkit.models.decoders import TokenDecoder
from mstkit.models.objectives.attention_weighting import weighting_of
from mstkit.models.objectives.objective import Objective, Surroundings, decoder_for, on_grid
from mstkit.models.objectives.patch_losses import hidden_around, patch_errors, weighted_mean
from mstkit.models.targets import Target, build_target
from mstkit.registry import MODELS
from mstkit.structures import Progress, TokenOutput, VisibleOutput
from mstkit.utils.checks import check_flag, check_number, check_probability

if TYPE_CHECKING:  # for annotations only: importing it would be circular
    from mstkit.models.step import Step


@MODELS.register_module()
class MaskedPrediction(Objective):
    """Mean prediction error over all hidden patches of a batch (MAE, SimMIM, BEiT, MaskFeat, data2vec …).

    The encoder gets [MASK] tokens in place of hidden patches, or the visible patches alone, see ``encoder_sees`` of
    :class:`Pretrainer`. Every hidden patch of a batch has the same weight, whichever image it belongs to; the error of
    a patch is the mean over its D values. If nothing is hidden, the loss is zero. Thrown patches have none. With
    several masks of an image the mean is over the hidden patches of all of them.

    With ``layer`` the prediction starts at the output of an inner block, and with ``scale`` its grid is finer or
    coarser than that of the patches: several such objectives are LocalMIM (Wang et al., CVPR 2023). A cell that covers
    several patches then has as weight the share of them that is hidden.

    Args:
        target: what is predicted, a :class:`Target`, for example ``dict(type='Pixels', norm=True)``; its
            ``patch_size`` defaults to the backbone's stride.
        decoder: maps tokens to predictions, a :class:`TokenDecoder`, for example ``dict(type='ViTDecoder')``; its sizes
            default to those of the backbone and the target. The teacher has none.
        loss: 'mse', 'l1' or 'smooth_l1' of values; 'cross_entropy' of the ids of a discrete target.
        on: the patches that the loss is computed on: 'hidden', or 'all' that are not thrown.
        beta: the error at which 'smooth_l1' changes from quadratic to linear.
        layer: the block of the student whose output the decoder gets, 1 for the first or -1 for the last; of a Swin,
            of those of the last stage. What comes from another than the last has a learned LayerNorm of its own.
        scale: cells along a side of the target's grid per patch: 2 for four cells in each patch, 0.5 for one cell on
            four patches. The decoder has to be one that can have a scale, such as :class:`ViTDecoder`.
        weight_mask: count a hidden patch 1 + s times, s the share of hidden ones among the 3x3 patches around it, so
            that those inside of a block, which are harder, weigh up to twice as much (``weight_mask`` of BootMAE's
            code). The sum is still divided by the number of hidden patches.
        norm_predicted: normalize the D predicted values of each patch to mean 0 and variance 1 before they are compared
            (BootMAE's code, for features that are normalized so too).
        weighting: arguments of :class:`AttentionWeighting`, for example ``dict(temperature=0.5)``: a patch counts the
            more the higher its score is, which the guide then gives whatever the masker is (AttG-MAE). The sum is still
            divided by the number of hidden patches. None counts all alike.
        weight: weight of the loss in the sum.
        weight_warmup: share of the run's epochs over which the weight rises evenly, epoch by epoch; 0 for none.
        surroundings: see :class:`Objective`.

    Raises:
        UsageError: no masker; a target, a decoder and a loss that do not match; a layer that does not exist; a scale
            that does not divide the patches, or that the target or the decoder cannot have; ``weight_mask`` or
            ``norm_predicted`` of a loss that has no such weights or values.
    """

    several_masks = True
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
        layer: int = -1,
        scale: float = 1.0,
        weight_mask: bool = False,
        norm_predicted: bool = False,
        weight_warmup: float = 0.0,
        weighting: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(surroundings, weight)
        self.full_weight = self.weight
        self.weight_warmup = check_probability('MaskedPrediction.weight_warmup', weight_warmup)
        self.weight_mask = check_flag('MaskedPrediction.weight_mask', weight_mask)
        self.weighting = None if weighting is None else weighting_of(weighting)
        self.needs_scores = self.weighting is not None
        self.norm_predicted = check_flag('MaskedPrediction.norm_predicted', norm_predicted)
        if weight_mask and on == 'all':
            raise UsageError("MaskedPrediction.weight_mask is True, which weighs hidden patches, but on is 'all'")
        if norm_predicted and loss == 'cross_entropy':
            raise UsageError(
                "MaskedPrediction.norm_predicted is True, but loss is 'cross_entropy', of logits: leave it out"
            )
        if on == 'hidden' and surroundings.masker is None:
            raise UsageError(
                f'{surroundings.method} predicts hidden patches, but has no masker: give one, such as '
                "dict(type='RandomMasker', ratio=0.75), or on='all'"
            )
        backbone = surroundings.backbone
        back, self.scale = backbone.blocks_back_to(layer, 'MaskedPrediction.layer'), scale
        self._inner = 0 if back == 1 else back  # the last block's output is the one with the backbone's final norm
        self.norm = nn.LayerNorm(backbone.feature_dims, eps=1e-6) if self._inner else None
        side = _side_of(backbone, scale)
        self.target = build_target(target, patch_size=side)
        self.target.prepare(backbone)
        if surroundings.normalization is not None:
            self.target.set_normalization(*surroundings.normalization)
        if self.target.patch_size != side:
            raise UsageError(
                f'target.patch_size is {self.target.patch_size}, but a token of {type(backbone).__name__} covers '
                f'{backbone.stride} px{"" if scale == 1 else f" and scale is {scale:g}"}: leave it out'
            )
        if scale != 1 and self.target.teacher_needs is not None:
            raise UsageError(
                f'scale is {scale:g}, but {type(self.target).__name__} is computed from patches of a teacher: leave it '
                'out'
            )
        if self.target.discrete != (loss == 'cross_entropy'):
            kind, fitting = ('ids', 'cross_entropy') if self.target.discrete else ('values', 'mse, l1 or smooth_l1')
            raise UsageError(f'loss is {loss!r}, but {type(self.target).__name__} gives {kind}: give {fitting}')
        known = {} if scale == 1 else dict(scale=scale)  # a decoder of one's own need not know of it
        self.decoder = decoder_for(decoder, surroundings, self.target.dims, **known)
        if self.decoder.out_channels != self.target.dims:
            raise UsageError(
                f'decoder.out_channels is {self.decoder.out_channels}, but {type(self.target).__name__} has '
                f'{self.target.dims} values per patch: leave it out'
            )
        self.student_layers = max(self._inner, self.decoder.student_layers)
        self.loss, self.on, self.beta = loss, on, check_number('MaskedPrediction.beta', beta, above=0)
        self.gives_patch_errors = scale == 1
        self.teacher_needs, self.teacher_layers = self.target.teacher_needs, self.target.teacher_layers
        self.student_needs = 'hidden' if self.decoder.per_patch and on == 'hidden' else 'all'
        if surroundings.encoder_sees == 'visible':
            self.student_needs = 'visible'

    def forward(self, step: Step) -> Tensor:
        """See :meth:`Objective.forward`."""
        seen = self._seen(step)
        target = self._target(step, self._scaled(seen.grid))
        if self.decoder.per_patch and self.on == 'hidden' and isinstance(seen, TokenOutput):
            # Predictions that no loss reads cost most where there are many ids: 8192 in BEiT.
            rows = seen.hidden  # None of a Swin, and where another objective reads all tokens
            if rows is None:
                rows = self._hidden(step).flatten().nonzero().squeeze(1)  # (M,)
            tokens = seen.patch_tokens.flatten(0, 1).index_select(0, rows)  # (M, C)
            predicted = self._predicted(seen._replace(patch_tokens=tokens[None]))
            errors = patch_errors(predicted, target.flatten(0, 1).index_select(0, rows)[None], self.loss, self.beta)
            factors = self._factors(step)
            weighed = errors if factors is None else errors * factors.flatten().index_select(0, rows)
            loss = weighed.sum() / max(len(rows), 1)
            if step.keeps_errors(self.name):
                step.patch_errors[self.name] = on_grid(errors[0], rows, target.shape[:2])
        else:
            errors = patch_errors(self._predicted(seen), target, self.loss, self.beta)
            counted, factors = self._counted(step), self._factors(step)
            weighed = errors if factors is None else errors * factors
            loss = weighed.mean() if counted is None else weighted_mean(weighed, counted)
            if step.keeps_errors(self.name):
                step.patch_errors[self.name] = errors.detach()
        self.statistics = {'masked_prediction': loss.detach()}
        return loss

    def errors_of(self, step: Step, seen: TokenOutput | VisibleOutput) -> Tensor:
        """See :meth:`Objective.errors_of`."""
        seen = self._read(seen)
        return patch_errors(self._predicted(seen), self._target(step, self._scaled(seen.grid)), self.loss, self.beta)

    def set_progress(self, progress: Progress) -> None:
        """See :meth:`Objective.set_progress`: the weight of the coming epoch, the temperature of the weighting."""
        if self.weighting is not None:
            self.weighting.set_progress(progress)
        if self.weight_warmup:
            epochs = self.weight_warmup * progress.total_steps / progress.steps_per_epoch
            self.weight = self.full_weight * min(1.0, (progress.epoch + 1) / epochs)

    def restore(self, step: Step) -> Tensor | None:
        """See :meth:`Objective.restore`; visible patches without a loss are the image's, thrown patches zeros."""
        seen = self._seen(step)
        return self._drawn(self._predicted(seen), step, self._scaled(seen.grid))

    @property
    def restored_with(self) -> str:
        """See :attr:`Objective.restored_with`."""
        return self.target.shown_with

    def show_target(self, step: Step) -> Tensor | None:
        """See :meth:`Objective.show_target`."""
        if self.target.shows_images:
            return None
        grid = self._scaled(self._seen(step).grid)
        values = self._target(step, grid)
        values = F.one_hot(values, self.target.dims).float() if self.target.discrete else values
        return self._drawn(values, step, grid)

    def check_views(self, global_size: int, local_size: int | None) -> None:
        """See :meth:`Objective.check_views`: whole cells of the target's grid, on which it can be computed."""
        side = self.target.patch_size
        if self.scale < 1 and global_size % side:
            below, above = global_size - global_size % side, global_size - global_size % side + side
            raise UsageError(
                f'scale {self.scale:g} predicts cells of {side} px, which do not divide global views of {global_size} '
                f'px: use {f"{below} or " if below else ""}{above} px, or another scale'
            )
        self.target.check_grid((global_size // side, global_size // side))

    def _drawn(self, values: Tensor, step: Step, grid: tuple[int, int]) -> Tensor | None:
        """Patch values (M*G*B, L, D) as images (M*G*B, 3, H, W); visible patches without a loss are copied from the
        images, and thrown ones, of which nothing is known or asked, are zeros."""
        images = step.student_images
        made = self.target.to_images(values, images, grid)
        if made is None:
            return made
        size = (made.shape[2], made.shape[3])

        def pixels(mask: Tensor) -> Tensor:  # (B, L) to (B, 1, H, W)
            return expand_mask(mask.unflatten(1, grid), size)[:, None]

        if self.on == 'hidden':
            made = torch.where(pixels(self._hidden(step) > 0), made, images.to(made.dtype))
        return made if step.thrown is None else made.masked_fill(pixels(self._on_cells(step.thrown) >= 1), 0.0)

    @torch.no_grad()
    def _target(self, step: Step, grid: tuple[int, int]) -> Tensor:
        """The target of every cell of all copies, computed once per image: (M*G*B, L, D), or (M*G*B, L) ids."""
        return step.per_copy(self.target(step.images, grid, None if self.teacher_needs is None else step.teacher))

    def _seen(self, step: Step) -> TokenOutput | VisibleOutput:
        """The student's tokens after the block that is predicted from."""
        return self._read(step.seen)

    def _read(self, seen: TokenOutput | VisibleOutput) -> TokenOutput | VisibleOutput:
        if self.norm is None:
            return seen
        if seen.class_tokens:
            seen = seen._replace(pooled=self.norm(seen.class_tokens[-self._inner]))
        return seen._replace(patch_tokens=self.norm(seen.layers[-self._inner]))

    def _predicted(self, seen: TokenOutput | VisibleOutput) -> Tensor:
        predicted = self.decoder(seen)
        return F.layer_norm(predicted.float(), predicted.shape[-1:]) if self.norm_predicted else predicted

    def _factors(self, step: Step) -> Tensor | None:
        """How often the target's cells count, (B, L); None for once each."""
        factors = None
        if self.weight_mask:
            assert step.mask is not None
            factors = self._on_cells(1 + hidden_around(step.mask))
        if self.weighting is not None:
            of_score = step.per_copy(self._on_cells(self.weighting(step.importance).unflatten(1, step.grid)))
            factors = of_score if factors is None else factors * of_score
        return factors

    def _counted(self, step: Step) -> Tensor | None:
        """The weights of the target's cells in the loss, (B, L); None for all alike."""
        if self.on == 'hidden':
            return self._hidden(step)
        return None if step.thrown is None else 1 - self._on_cells(step.thrown).float()

    def _hidden(self, step: Step) -> Tensor:
        """The flat mask on the target's grid: (B, L) bool, or for cells on several patches the share that is hidden."""
        assert step.mask is not None
        return self._on_cells(step.mask)

    def _on_cells(self, mask: Tensor) -> Tensor:
        """A mask, or values of patches, (B, h, w) on the target's grid, flat."""
        if self.scale < 1:
            return F.avg_pool2d(mask.float(), round(1 / self.scale)).flatten(1)
        return expand_mask(mask, self._scaled(tuple(mask.shape[1:]))).flatten(1)

    def _scaled(self, grid: tuple[int, ...]) -> tuple[int, int]:
        """The target's grid, (h * scale, w * scale)."""
        return round(grid[0] * self.scale), round(grid[1] * self.scale)


def _side_of(backbone: MaskedBackbone, scale: float) -> int:
    """Side of a cell of the target's grid in pixels. Raises UsageError for a scale that gives none."""
    side = backbone.stride / check_number('MaskedPrediction.scale', scale, 1 / 16, 1024)
    if side < 1 or side % 1 or (scale < 1 and (1 / scale) % 1):
        raise UsageError(
            f'MaskedPrediction.scale is {scale:g}: give a number that divides the {backbone.stride} px of a token of '
            f'{type(backbone).__name__}, or 0.5 or 0.25'
        )
    return round(side)
