"""What every method with a momentum teacher has: two networks, a masker between them, and what others may ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from mmengine import dist
from mmpretrain.models.selfsup import BaseSelfSupervisor
from torch import Tensor, nn

from mstkit.checks import check_count, check_flag, check_number
from mstkit.errors import UsageError
from mstkit.models.backbones import MaskedBackbone, Read
from mstkit.models.maskers import Masker, build_masker
from mstkit.registry import MODELS
from mstkit.structures import PanelData, Progress, TokenOutput


class TeacherStudent(BaseSelfSupervisor):
    """A student that sees less than its teacher, which is its own moving average.

    A method builds its parts after this constructor, calls :meth:`add_teacher` once those that the teacher follows
    (:attr:`FOLLOWED`) are there, and writes :meth:`loss`.

    Args:
        backbone: a :class:`MaskedBackbone`.
        masker: what hides the student's patches; None or 'none' hides nothing.
        global_views: how many of the first views are global.
        data_preprocessor: normalisation, on the device.
        mask_token_std: what the learned [MASK] embedding starts as: a truncated normal of this deviation, 0 for zeros.
        mask_token_decay: whether it is decayed like a weight matrix (see :attr:`decayed_parameters`).

    Raises:
        UsageError: parts that do not fit each other.
    """

    FOLLOWED: ClassVar[tuple[str, ...]] = ('backbone', 'neck')
    static_graph: ClassVar[bool] = True  # every step uses the same parameters, whatever was hidden

    def __init__(
        self,
        backbone: dict,
        masker: dict | Masker | str | None = None,
        global_views: int = 2,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        mask_token_std: float = 0.02,
        mask_token_decay: bool = False,
    ) -> None:
        student = MODELS.build(backbone)
        if not isinstance(student, MaskedBackbone):
            known = [name for name, cls in MODELS.module_dict.items() if issubclass(cls, MaskedBackbone)]
            raise UsageError(
                f'backbone {type(student).__name__} cannot be pre-trained with masks (it has no forward_tokens); '
                f'those that can: {", ".join(sorted(known))}'
            )
        # mmpretrain would look for it in its own registry, unless mstkit's scope is the current one.
        preprocessor = MODELS.build({'type': 'ViewDataPreprocessor', **(data_preprocessor or {})})
        super().__init__(student, data_preprocessor=preprocessor, init_cfg=init_cfg)
        self.masker = build_masker(masker)
        if self.masker is not None:
            for part in self.masker.parts():
                if part.needs_attention and not student.provides_attention:
                    raise UsageError(
                        f'masker {type(part).__name__} needs attention and backbone {type(student).__name__} '
                        'gives none; take RandomMasker or BlockMasker, or a backbone with attention'
                    )
            self.mask_token = nn.Parameter(torch.zeros(student.embedding_dims))
        name = type(self).__name__
        self.mask_token_std = check_number(f'{name}: mask_token_std', mask_token_std, 0, 1e3)
        self.mask_token_decay = check_flag(f'{name}: mask_token_decay', mask_token_decay)
        self.global_views = check_count(f'{name}.global_views', global_views, 1, 100)
        self._statistics: dict[str, Tensor] = {}
        self._driven = False
        self._undriven_losses = 0

    def add_teacher(self, teacher: dict | None) -> None:
        """Builds the teacher of what was built so far; the default is a :class:`MomentumTeacher`."""
        config = {'type': 'MomentumTeacher', **(teacher or {})}
        self.teacher = MODELS.build(config, default_args=dict(student=self.followed()))

    def followed(self) -> dict[str, nn.Module]:
        """The student's parts that the teacher follows, by name."""
        parts = {name: getattr(self, name, None) for name in self.FOLLOWED}
        return {name: part for name, part in parts.items() if part is not None}

    def init_weights(self) -> None:
        """Initialises the student, then makes the teacher equal to it."""
        super().init_weights()
        if self.masker is not None:
            nn.init.zeros_(self.mask_token)
            if self.mask_token_std:
                nn.init.trunc_normal_(self.mask_token, std=self.mask_token_std)
        self.teacher.copy_from(self.followed())

    @property
    def decayed_parameters(self) -> tuple[str, ...]:
        """Names of parameters with one dimension that are decayed all the same.

        Decay spares what has one dimension, norms and biases. iBOT's [MASK] embedding has two, (1, D), and so is
        decayed; here it has one. :class:`mstkit.engine.TrainableOptimWrapperConstructor` reads these names.
        """
        return ('mask_token',) if self.masker is not None and self.mask_token_decay else ()

    # -- one step ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def look(self, images: Tensor, attention: bool = False, read: Read = 'all') -> tuple[TokenOutput, Tensor | None]:
        """What the teacher sees in whole images, and the mask that the student gets.

        Attention is computed only where the masker of this moment asks for it, of the block that it names.

        Args:
            images: (B, 3, H, W), normalised.
            attention: compute it in any case.
            read: which of the teacher's tokens the caller reads; a masker that reads patches gets them all the same.

        Returns:
            The teacher's tokens, and (B, h, w) bool or None without a masker.
        """
        asks, layer = (False, -1) if self.masker is None else (self.masker.needs_attention, self.masker.layer)
        if self.masker is not None and any(part.needs_patches for part in self.masker.parts()):
            read = 'all'
        seen = self.teacher.backbone.forward_tokens(
            images, return_attention=asks or attention, attention_layer=layer, read=read
        )
        return seen, None if self.masker is None else self.masker(seen)

    def study(self, images: Tensor, mask: Tensor | None = None, read: Read = 'all') -> TokenOutput:
        """The student's tokens of images, of which the masked patches are hidden; those that are read."""
        token = None if self.masker is None else self.mask_token
        return self.backbone.forward_tokens(images, mask, mask_token=token, read=read)

    def note(self, statistics: dict[str, Tensor], mask: Tensor | None) -> None:
        """Keeps the step's detached scalars for :meth:`last_statistics`, and how much was hidden."""
        self._statistics = statistics if mask is None else {**statistics, 'hidden_fraction': mask.float().mean()}

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """As mmengine's; what is logged, and checked for being finite, is the mean over the ranks."""
        total, logged = super().parse_losses(losses)
        if dist.get_world_size() > 1:
            values = torch.stack([value.detach().float() for value in logged.values()])
            dist.all_reduce(values, 'mean')
            logged = dict(zip(logged, values.unbind(), strict=True))
        return total, logged

    def set_progress(self, progress: Progress) -> None:
        """Prepares every scheduled or random part for the coming iteration."""
        self._driven = True
        self.teacher.set_progress(progress)
        if self.masker is not None:
            self.masker.set_progress(progress)

    def after_step(self) -> None:
        """Called once after every optimizer step: the teacher follows."""
        self.teacher.update(self.followed())

    # -- what others may ask ----------------------------------------------------------------------------------------

    def branches(self) -> dict[str, nn.Module]:
        """The backbones that can be evaluated, by name."""
        return {'student': self.backbone, 'teacher': self.teacher.backbone}

    def last_statistics(self) -> dict[str, Tensor]:
        """Detached scalars of the last step, in nats where they are entropies; ``hidden_fraction`` with a masker."""
        return self._statistics

    def check_views(self, global_size: int, local_size: int | None = None) -> None:
        """Refuses crop sizes that the backbone or the masker cannot take, before anything runs. Sides in pixels."""
        self.backbone.check_image_size(global_size, masked=True)
        if local_size is not None:
            self.backbone.check_image_size(local_size, masked=False)
        if self.masker is not None:
            self.masker.check_view(self.backbone, global_size)

    def check_view_count(self, sizes: Sequence[int]) -> None:
        """Refuses views of which there are not those that the method compares, before anything runs.

        Args:
            sizes: the side of each view, in pixels, in their order.

        Raises:
            UsageError: with what to set in MultiCrop.
        """

    def check_batch(self, images: int) -> None:
        """Refuses a global batch that the method cannot take, before anything runs. Raises UsageError."""

    @torch.no_grad()
    def panel(self, images: Tensor) -> PanelData:
        """What one step sees, for a picture; nothing of the model changes.

        Args:
            images: (B, 3, H, W), normalised.
        """
        was_training = self.training
        self.eval()
        seen, mask = self.look(images, attention=True)
        restored = self.restore(self.study(images, mask))
        self.train(was_training)
        assert seen.attention is not None
        attention = seen.attention.mean(dim=1).view(len(images), *seen.grid)
        return PanelData(images, attention, mask, restored)

    def restore(self, student: TokenOutput, views: int = 1) -> Tensor | None:
        """Pictures restored from tokens, where the method does that: (B, 3, H, W), normalised, or None."""
        return None

    def check_driven(self) -> None:
        """Complains, in the second training step, if nobody moves the teacher."""
        if self._driven or not self.training:
            return
        self._undriven_losses += 1
        if self._undriven_losses > 1:
            raise RuntimeError(
                'the teacher would never move: nothing called set_progress() and after_step(). '
                "Add dict(type='ProgressHook') to custom_hooks, or call both around each optimizer step"
            )


def as_map(tokens: TokenOutput) -> Tensor:
    """Patch tokens (B, L, C) as a map (B, C, h, w), channels last."""
    return tokens.patch_tokens.unflatten(1, tokens.grid).permute(0, 3, 1, 2)
