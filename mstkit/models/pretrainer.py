"""The one training step of all methods: objectives on what a student sees, with a masker, a guide and a teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from mmengine import dist
from mmpretrain.models.selfsup import BaseSelfSupervisor
from torch import Tensor, nn

from mstkit.models.backbones import MaskedBackbone
from mstkit.models.data_preprocessors import normalization_of
from mstkit.models.guides import Guide, build_guide
from mstkit.models.heads import CenteredHead, step_together
from mstkit.models.interface import TrainedModel
from mstkit.models.maskers import Masker, build_masker
from mstkit.models.objectives import Surroundings, build_objectives
from mstkit.models.part_checks import (
    Sees,
    cell_of,
    check_backbone,
    check_guidance,
    check_objectives,
    check_teacher,
    needs_teacher,
    union_of_needs,
)
from mstkit.models.step import Step
from mstkit.registry import MODELS
from mstkit.structures import PanelData, Progress, Read, TokenOutput, VisibleOutput
from mstkit.utils.checks import check_count, check_flag, check_number


@MODELS.register_module()
class Pretrainer(TrainedModel, BaseSelfSupervisor):
    """A list of objectives on one step: what is seen, what is hidden, what is predicted.

    Any of the objectives with any masker; the published methods (:class:`MSTAlgorithm`, :class:`DINO`, :class:`IBOT`,
    :class:`MoBY`) are this with flat arguments. What no objective needs is not computed.

    Args:
        backbone: a :class:`MaskedBackbone`.
        objectives: configs of :class:`Objective` by name; each is logged as ``loss_NAME``, and None leaves one out.
        masker: what hides the student's patches; None or 'none' hides nothing.
        guide: what a masker that needs scores is told by: 'teacher', the method's own; or the config of a
            :class:`Guide`. Not asked by maskers that need none.
        teacher: the moving average that objectives and guides look at, see :class:`MomentumTeacher`. Where it is not
            given there is one, with its defaults, if an objective or the masker's guide needs it, and none otherwise.
            False for none, True for one in any case.
        encoder_sees: what the student's encoder is given of a masked image: 'mask_token', the [MASK] embedding in place
            of what is hidden; 'visible', the visible patches alone (MAE), which a Swin cannot.
        mask_patch_size: side in pixels of what is hidden or shown as one, a multiple of the backbone's stride (SimMIM:
            32); the backbone's own patch tokens where it is not given.
        global_views: how many of the first views are global.
        data_preprocessor: normalization, on the device.
        mask_token_std: what the learned [MASK] embedding starts as: a truncated normal of this deviation, 0 for zeros.
        mask_token_decay: whether it is decayed like a weight matrix (see :attr:`decayed_parameters`).

    Raises:
        UsageError: parts that do not fit each other.
    """

    static_graph: ClassVar[bool] = True  # every step uses the same parameters, whatever was hidden
    # Where a config has a part of an objective that it does not name by its place, for messages.
    FLAT_KEYS: ClassVar[Mapping[str, str]] = {}
    backbone: MaskedBackbone
    teacher: Any
    guide: Any
    objectives: Any

    def __init__(
        self,
        backbone: dict,
        objectives: Mapping[str, dict | None],
        masker: dict | Masker | str | None = None,
        guide: dict | Guide | str | None = 'teacher',
        teacher: dict | bool | None = None,
        global_views: int = 2,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        mask_token_std: float = 0.02,
        mask_token_decay: bool = False,
        encoder_sees: Sees = 'mask_token',
        mask_patch_size: int | None = None,
    ) -> None:
        name = type(self).__name__
        student = check_backbone(MODELS.build(backbone), encoder_sees, name)
        # mmpretrain would look for it in its own registry, unless mstkit's scope is the current one.
        preprocessor = MODELS.build({'type': 'ViewDataPreprocessor', **(data_preprocessor or {})})
        super().__init__(student, data_preprocessor=preprocessor, init_cfg=init_cfg)
        self.masker = build_masker(masker)
        self.encoder_sees, self.mask_cell = encoder_sees, cell_of(mask_patch_size, student, name)
        hides = self.masker is not None and encoder_sees == 'mask_token'
        self.mask_token = nn.Parameter(torch.zeros(student.embedding_dims)) if hides else None
        self.mask_token_std = check_number(f'{name}: mask_token_std', mask_token_std, 0, 1e3)
        self.mask_token_decay = check_flag(f'{name}: mask_token_decay', mask_token_decay)
        self.global_views = check_count(f'{name}.global_views', global_views, 1, 100)
        surroundings = Surroundings(student, self.masker, {}, name, encoder_sees, normalization_of(preprocessor))
        self.objectives = build_objectives(objectives, surroundings)
        check_objectives(self.objectives, encoder_sees, name)
        guiding = build_guide(guide)
        self.teacher = None
        if teacher is None:
            teacher = needs_teacher(self.objectives.values(), self.masker, guiding)
        if teacher is not False:
            config = {'type': 'MomentumTeacher', **(teacher if isinstance(teacher, Mapping) else {})}
            self.teacher = MODELS.build(config, default_args=dict(student=self.followed()))
        check_teacher(self.objectives, self.teacher)
        self.guide = None if self.teacher is None and guiding is not None and guiding.uses_teacher else guiding
        check_guidance(self.masker, self.guide, student)
        self._statistics: dict[str, Tensor] = {}
        self._driven = False
        self._undriven_losses = 0

    @property
    def guided_by_teacher(self) -> bool:
        """Whether the masker's scores are the teacher's attention."""
        return self.guide is not None and self.guide.uses_teacher

    @property
    def student_needs(self) -> Read:
        """The tokens of the student's global views that the objectives read, all together."""
        return union_of_needs(one.student_needs for one in self.objectives.values()) or 'pooled'

    @property
    def teacher_needs(self) -> Read | None:
        """The same of the teacher; None where no objective looks at it."""
        return union_of_needs(one.teacher_needs for one in self.objectives.values())

    def followed(self) -> dict[str, nn.Module]:
        """The student's parts that the teacher follows, under the teacher's names for them."""
        parts = {
            f'{name}_{part}': module
            for name, objective in self.objectives.items()
            for part, module in objective.followed().items()
        }
        return {'backbone': self.backbone, **parts}

    def init_weights(self) -> None:
        """Initializes the student, then makes the teacher equal to it."""
        super().init_weights()
        if self.mask_token is not None:
            nn.init.zeros_(self.mask_token)
            if self.mask_token_std:
                nn.init.trunc_normal_(self.mask_token, std=self.mask_token_std)
        if self.teacher is not None:
            self.teacher.copy_from(self.followed())

    @property
    def decayed_parameters(self) -> tuple[str, ...]:
        """Names of parameters with one dimension that are decayed all the same.

        Decay spares what has one dimension, norms and biases. iBOT's [MASK] embedding has two, (1, D), and so is
        decayed; here it has one. :class:`mstkit.engine.TrainableOptimWrapperConstructor` reads these names.
        """
        return ('mask_token',) if self.mask_token is not None and self.mask_token_decay else ()

    # -- one step ---------------------------------------------------------------------------------------------------

    def loss(self, inputs: list[Tensor], data_samples: list | None = None) -> dict[str, Tensor]:
        """One training step's losses.

        Args:
            inputs: V views, each (B, 3, H, W), normalized; the global ones first.
            data_samples: not used; labels never reach a self-supervised loss.

        Returns:
            ``loss_NAME`` of each objective, scalars, weighted.
        """
        self._check_driven()
        self.check_view_count([view.shape[-1] for view in inputs])
        if self.training and self.teacher is not None:
            self.teacher.before_step(self.followed())
        step = Step(self, inputs)
        losses = {f'loss_{name}': one.weight * one(step) for name, one in self.objectives.items()}
        self._statistics = {key: value for one in self.objectives.values() for key, value in one.statistics.items()}
        if step.mask is not None:
            self._statistics['hidden_fraction'] = step.mask.float().mean()
        return losses

    @torch.no_grad()
    def teacher_forward(self, images: Tensor, attention: bool, layer: int = -1, read: Read = 'all') -> TokenOutput:
        """The teacher's tokens of whole images, (B, 3, H, W), and on request the attention of a block."""
        return self.teacher.backbone.forward_tokens(
            images, return_attention=attention, attention_layer=layer, read=read
        )

    def student_forward(self, images: Tensor, mask: Tensor | None = None, read: Read = 'all') -> TokenOutput:
        """The student's tokens of images, of which the masked patches are hidden; those that are read."""
        return self.backbone.forward_tokens(images, mask, mask_token=self.mask_token, read=read)

    def student_forward_visible(self, images: Tensor, mask: Tensor | None) -> VisibleOutput:
        """The student's tokens of the visible patches of images, of which it sees no others; all without a mask."""
        if mask is None:
            mask = torch.zeros((len(images), *self.backbone.grid_of(images)), dtype=torch.bool, device=images.device)
        return self.backbone.forward_visible(images, mask)

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
        for part in (self.teacher, self.masker, *self.objectives.values()):
            if part is not None:
                part.set_progress(progress)

    def after_step(self) -> None:
        """Called once after every optimizer step: the teacher and the centers follow."""
        if self.teacher is not None:
            self.teacher.after_step(self.followed())
        step_together([part for part in self.objectives.modules() if isinstance(part, CenteredHead)])

    # -- what others may ask ----------------------------------------------------------------------------------------

    def branches(self) -> dict[str, nn.Module]:
        """The backbones that can be evaluated, by name."""
        teacher = {} if self.teacher is None else {'teacher': self.teacher.backbone}
        return {'student': self.backbone, **teacher}

    def last_statistics(self) -> dict[str, Tensor]:
        """Detached scalars of the last step, in nats where they are entropies; ``hidden_fraction`` with a masker."""
        return self._statistics

    @property
    def prototypes(self) -> int | None:
        """See :attr:`TrainedModel.prototypes`."""
        return next((one.prototypes for one in self.objectives.values() if one.prototypes is not None), None)

    def check_views(self, global_size: int, local_size: int | None = None) -> None:
        """Refuses crop sizes that a part cannot take, before anything runs. Sides in pixels."""
        for objective in self.objectives.values():
            objective.check_views(global_size, local_size)
        self.backbone.check_image_size(global_size, masked=True)
        if local_size is not None:
            self.backbone.check_image_size(local_size, masked=False)
        if self.masker is not None:
            self.masker.check_view(self.backbone, global_size, self.mask_cell)

    def check_view_count(self, sizes: Sequence[int]) -> None:
        """Refuses views of which there are not those that the objectives compare, before anything runs.

        Args:
            sizes: the side of each view, in pixels, in their order.

        Raises:
            UsageError: with what to set in MultiCrop.
        """
        for objective in self.objectives.values():
            objective.check_view_count(sizes, self.global_views)

    def check_batch(self, images: int) -> None:
        """Refuses a global batch that an objective cannot take, before anything runs. Raises UsageError."""
        for objective in self.objectives.values():
            objective.check_batch(images)

    def config_key(self, module: str) -> str:
        """Where the config of a module is, below ``model``: 'objectives.ce.head' is 'head' in DINO."""
        place = next((long for long in self.FLAT_KEYS if f'{module}.'.startswith(f'{long}.')), None)
        return module if place is None else self.FLAT_KEYS[place] + module.removeprefix(place)

    @torch.no_grad()
    def panel(self, images: Tensor) -> PanelData:
        """What one step sees of images, (B, 3, H, W), normalized, for a panel; nothing of the model changes."""
        was_training = self.training
        self.eval()
        step = Step(self, [images], attention=self.backbone.provides_attention, read_all=True)
        attention = None
        if self.teacher is not None and step.teacher.attention is not None:
            attention = step.teacher.attention.mean(dim=1).view(len(images), *step.teacher.grid)
        drawn = [(one.restore(step), one.show_target(step)) for one in self.objectives.values()]
        self.train(was_training)
        restored, target = next((pair for pair in drawn if pair[0] is not None), (None, None))
        return PanelData(images, attention, step.mask, restored, target)

    def _check_driven(self) -> None:
        """Complains, in the second training step, if nobody moves the teacher and keys the masks."""
        if self._driven or not self.training:
            return
        self._undriven_losses += 1
        if self._undriven_losses > 1:
            raise RuntimeError(
                'a teacher would never move and every step would hide alike: nothing called set_progress() and '
                "after_step(). Add dict(type='ProgressHook') to custom_hooks, or call both around each optimizer step"
            )
