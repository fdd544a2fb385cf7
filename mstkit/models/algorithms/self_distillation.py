"""The step that the self-distillation methods share: teacher → mask → student → losses."""

from __future__ import annotations

from itertools import groupby

import torch
from mmengine import dist
from mmpretrain.models.selfsup import BaseSelfSupervisor
from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.models.backbones import MaskedBackbone
from mstkit.registry import MODELS
from mstkit.structures import PanelData, Progress, TokenOutput


class SelfDistillation(BaseSelfSupervisor):
    """A student that learns from its own moving average, seeing less than it.

    The teacher sees the global views whole. The student sees them with some patches hidden, and the local views. A
    method adds its own losses in :meth:`more_losses`. The class token's cross-view loss (MST eq. 2) is here.

    Sizes that follow from another part (``in_channels`` of the neck, ``out_dim`` of the head) are filled in where the
    config leaves them out.

    Args:
        backbone: a :class:`MaskedBackbone`.
        neck: pooled features (B, C) to logits (B, K).
        head: the loss on those logits, with its centre.
        teacher: the moving average; defaults to :class:`MomentumTeacher`'s own defaults.
        masker: what hides the student's patches; None or 'none' hides nothing.
        loss_weight_ce: weight of the cross-view loss.
        global_views: how many of the first views are global.
        data_preprocessor: normalisation, on the device.

    Raises:
        UsageError: parts that do not fit each other.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict,
        teacher: dict | None = None,
        masker: dict | None = None,
        loss_weight_ce: float = 1.0,
        global_views: int = 2,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        student = MODELS.build(backbone)
        if not isinstance(student, MaskedBackbone):
            known = [name for name, cls in MODELS.module_dict.items() if issubclass(cls, MaskedBackbone)]
            raise UsageError(
                f'backbone {type(student).__name__} cannot be pre-trained with masks (it has no forward_tokens); '
                f'those that can: {", ".join(sorted(known))}'
            )
        built_neck = MODELS.build(neck, default_args=dict(in_channels=student.feature_dims))
        built_head = MODELS.build(head, default_args=dict(out_dim=built_neck.out_dim))
        if built_head.out_dim != built_neck.out_dim:
            raise UsageError(
                f'neck.out_dim is {built_neck.out_dim} and head.out_dim is {built_head.out_dim}: make them equal'
            )
        super().__init__(student, built_neck, built_head, data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.masker = None if masker in (None, 'none', 'None') else MODELS.build(masker)
        if self.masker is not None:
            if self.masker.needs_attention and not student.provides_attention:
                raise UsageError(
                    f'masker {type(self.masker).__name__} needs attention and backbone {type(student).__name__} '
                    'gives none; take RandomMasker, or a backbone with attention'
                )
            self.mask_token = nn.Parameter(torch.zeros(student.embedding_dims))
        self.teacher = MODELS.build(
            {'type': 'MomentumTeacher', **(teacher or {})}, default_args=dict(student=self._followed())
        )
        self.loss_weight_ce = loss_weight_ce
        self.global_views = global_views
        self._statistics: dict[str, Tensor] = {}
        self._driven = False
        self._undriven_losses = 0

    def _followed(self) -> dict[str, nn.Module]:
        return {'backbone': self.backbone, 'neck': self.neck}

    def init_weights(self) -> None:
        """Initialises the student, then makes the teacher equal to it."""
        super().init_weights()
        if self.masker is not None:
            nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.teacher.copy_from(self._followed())

    # -- one step ---------------------------------------------------------------------------------------------------

    def loss(self, inputs: list[Tensor], data_samples: list | None = None) -> dict[str, Tensor]:
        """One training step's losses.

        Args:
            inputs: V views, each (B, 3, H, W), normalised; the global ones first.
            data_samples: not used; labels never reach a self-supervised loss.

        Returns:
            ``loss_*`` scalars, weighted.
        """
        self._check_driven()
        views, count = len(inputs), self.global_views
        images = torch.cat(inputs[:count])
        with torch.no_grad():
            seen = self.teacher.backbone.forward_tokens(images, return_attention=self._needs_attention)
            targets = self.teacher.neck(seen.pooled, views=count)
            mask = None if self.masker is None else self.masker(seen)
        student = self.backbone.forward_tokens(images, mask, mask_token=self._mask_token)
        pooled = [student.pooled]
        for _, crops in groupby(inputs[count:], key=lambda view: view.shape):
            pooled.append(self.backbone.forward_tokens(torch.cat(list(crops))).pooled)
        logits = self.neck(torch.cat(pooled), views=views, global_views=count)
        cross_view = self.head.loss(logits, targets, views, count)
        losses = {'loss_ce': self.loss_weight_ce * cross_view, **self.more_losses(images, student, mask)}
        self._statistics = dict(self.head.statistics, cross_view=cross_view.detach())
        if mask is not None:
            self._statistics['hidden_fraction'] = mask.float().mean()
        return losses

    def more_losses(self, images: Tensor, student: TokenOutput, mask: Tensor | None) -> dict[str, Tensor]:
        """A method's own losses on the global views.

        Args:
            images: (G*B, 3, H, W), the global views, normalised.
            student: the student's tokens of them.
            mask: (G*B, h, w) or None.

        Returns:
            ``loss_*`` scalars, weighted.
        """
        return {}

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
        self.head.set_progress(progress)
        self.teacher.set_progress(progress)
        if self.masker is not None:
            self.masker.set_progress(progress)

    def after_step(self) -> None:
        """The teacher and the centre follow; called once after every optimizer step."""
        self.teacher.update(self._followed())
        self.head.step()

    # -- what others may ask ----------------------------------------------------------------------------------------

    def branches(self) -> dict[str, nn.Module]:
        """The backbones that can be evaluated, by name."""
        return {'student': self.backbone, 'teacher': self.teacher.backbone}

    def last_statistics(self) -> dict[str, Tensor]:
        """Detached scalars of the last step: cross_view, teacher_entropy and kl in nats, hidden_fraction."""
        return self._statistics

    def check_views(self, global_size: int, local_size: int | None = None) -> None:
        """Refuses crop sizes that the backbone or the masker cannot take, before anything runs. Sides in pixels."""
        self.backbone.check_image_size(global_size, masked=True)
        if local_size is not None:
            self.backbone.check_image_size(local_size, masked=False)
        if self.masker is not None:
            self.masker.check_grid((global_size // self.backbone.stride) ** 2)

    @torch.no_grad()
    def panel(self, images: Tensor) -> PanelData:
        """What one step sees, for a picture; nothing of the model changes.

        Args:
            images: (B, 3, H, W), normalised.
        """
        was_training = self.training
        self.eval()
        seen = self.teacher.backbone.forward_tokens(images, return_attention=True)
        mask = None if self.masker is None else self.masker(seen)
        student = self.backbone.forward_tokens(images, mask, mask_token=self._mask_token)
        restored = self.restore(student)
        self.train(was_training)
        assert seen.attention is not None
        attention = seen.attention.mean(dim=1).view(len(images), *seen.grid)
        return PanelData(images, attention, mask, restored)

    def restore(self, student: TokenOutput, views: int = 1) -> Tensor | None:
        """Pictures restored from tokens, where the method does that: (B, 3, H, W), normalised, or None."""
        return None

    @property
    def _needs_attention(self) -> bool:
        return self.masker is not None and self.masker.needs_attention

    @property
    def _mask_token(self) -> Tensor | None:
        return None if self.masker is None else self.mask_token

    def _check_driven(self) -> None:
        if self._driven or not self.training:
            return
        self._undriven_losses += 1
        if self._undriven_losses > 1:
            raise RuntimeError(
                'the teacher would never move: nothing called set_progress() and after_step(). '
                "Add dict(type='ProgressHook') to custom_hooks, or call both around each optimizer step"
            )


def as_map(tokens: TokenOutput) -> Tensor:
    """Patch tokens (B, L, C) as a map (B, C, h, w)."""
    batch, _, channels = tokens.patch_tokens.shape
    return tokens.patch_tokens.transpose(1, 2).reshape(batch, channels, *tokens.grid)
