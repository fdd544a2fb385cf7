"""The base class of all methods: a student trained on a list of objectives, with a masker, a guide and a teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from mmengine import dist
from mmpretrain.models.selfsup import BaseSelfSupervisor
from torch import Tensor, nn

from mstkit.models.data_preprocessors import normalization_of
from mstkit.models.encoder_passes import EncoderPasses
from mstkit.models.guides import Guide, build_guide
from mstkit.models.heads import CenteredHead, step_together
from mstkit.models.interface import TrainedModel
from mstkit.models.maskers import Masker, build_masker
from mstkit.models.objectives import Surroundings, build_objectives
from mstkit.models.part_checks import (
    Sees,
    cell_of,
    check_backbone,
    check_copies,
    check_objectives,
    check_teacher,
    check_throwing,
    check_view_numbers,
    has_mask_token,
    needs_teacher,
    request_of,
    sees_squares,
    settle_guide,
    union_of_needs,
)
from mstkit.models.step import Step, panel_of
from mstkit.registry import MODELS
from mstkit.structures import PanelData, Progress, Read
from mstkit.utils.checks import check_count, check_flag, check_number


@MODELS.register_module()
class Pretrainer(EncoderPasses, TrainedModel, BaseSelfSupervisor):
    """Trains a backbone on the weighted sum of several objectives.

    Objectives and maskers combine freely; the published methods (:class:`MSTAlgorithm`, :class:`DINO`, :class:`IBOT`,
    :class:`MoBY`, :class:`MAE`, :class:`SimMIM`, :class:`MaskFeat`) are subclasses with flat arguments. What no
    objective needs is not computed.

    Args:
        backbone: a :class:`MaskedBackbone`.
        objectives: configs of :class:`Objective` by name; each is logged as ``loss_NAME``, and None leaves one out.
        masker: decides which of the student's patches are hidden; None or 'none' hides nothing.
        guide: the source of the attention scores or tokens that some maskers need: 'teacher', the method's own; 'ema',
            'student', 'cached'; or the config of a :class:`Guide`. It runs only for a masker that needs it.
        teacher: config of the :class:`MomentumTeacher`, an exponential moving average of the student. None builds one
            with default arguments if an objective or the masker's guide needs it; False never builds one, True always.
        encoder_sees: input of the student's encoder for a masked image: 'mask_token', all patches, with the [MASK]
            embedding in place of hidden ones; 'visible', the visible patches alone (MAE), with a Swin only of a
            :class:`UniformMasker`.
        mask_patch_size: side in pixels of the squares that the masker hides or keeps as a whole, a multiple of the
            backbone's stride (SimMIM: 32); None masks single patch tokens.
        global_views: how many of the first views are global; a target view (``target_needs`` of :class:`Objective`) is
            one more, after them.
        data_preprocessor: normalization, on the device.
        mask_token_std: the learned [MASK] embedding is initialized from a truncated normal of this standard deviation;
            0 for zeros.
        mask_token_decay: whether weight decay applies to the [MASK] embedding (see :attr:`decayed_parameters`).
        masks_per_image: M, how often the student sees each global view, each time under another mask, for one pass of
            teacher and guide (data2vec 2.0's ``clone_batch``). Losses are means over all copies.

    Raises:
        UsageError: parts that do not fit each other.
    """

    static_graph: ClassVar[bool] = True  # every step uses the same parameters, whatever the mask
    # Path of an objective's module -> the flat argument that configures it, for messages (see config_key).
    FLAT_KEYS: ClassVar[Mapping[str, str]] = {}
    VIT_DEFAULTS: ClassVar[Mapping[str, Any]] = {}  # what a MaskedVisionTransformer gets that its config leaves out
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
        masks_per_image: int = 1,
    ) -> None:
        name = type(self).__name__
        masking = build_masker(masker)
        student = check_backbone(MODELS.build(self.backbone_config(backbone)), encoder_sees, masking, name)
        # Built here: BaseSelfSupervisor would look it up in mmpretrain's registry unless mstkit's scope is current.
        preprocessor = MODELS.build({'type': 'ViewDataPreprocessor', **(data_preprocessor or {})})
        super().__init__(student, data_preprocessor=preprocessor, init_cfg=init_cfg)
        self.masker = check_throwing(masking, encoder_sees, name)
        self.encoder_sees, self.mask_cell = encoder_sees, cell_of(mask_patch_size, student, encoder_sees, name)
        has_token = has_mask_token(student, encoder_sees, self.masker)
        self.mask_token = nn.Parameter(torch.zeros(student.embedding_dims)) if has_token else None
        self.mask_token_std = check_number(f'{name}: mask_token_std', mask_token_std, 0, 1e3)
        self.mask_token_decay = check_flag(f'{name}: mask_token_decay', mask_token_decay)
        self.global_views = check_count(f'{name}.global_views', global_views, 1, 100)
        surroundings = Surroundings(student, self.masker, {}, name, encoder_sees, normalization_of(preprocessor))
        self.objectives = build_objectives(objectives, surroundings)
        check_objectives(self.objectives, encoder_sees, name)
        self.masks_per_image = check_copies(masks_per_image, self.masker, self.objectives, name)
        self.target_needs = union_of_needs(one.target_needs for one in self.objectives.values())
        asks, guiding = request_of(self.masker, self.objectives.values()), build_guide(guide)
        self.teacher = None
        if teacher is None:
            teacher = needs_teacher(self.objectives.values(), asks, guiding)
        if teacher is not False:
            config = {'type': 'MomentumTeacher', **(teacher if isinstance(teacher, Mapping) else {})}
            self.teacher = MODELS.build(config, default_args=dict(student=self.followed()))
        check_teacher(self.objectives, self.teacher)
        self.guide = settle_guide(guiding, self.teacher, surroundings._replace(masker=asks, objectives=self.objectives))
        self._statistics: dict[str, Tensor] = {}
        self._driven, self._undriven_losses = False, 0

    @classmethod
    def backbone_config(cls, backbone: Mapping[str, Any]) -> dict[str, Any]:
        """A backbone's config with the defaults of the method, for whoever builds the backbone alone too."""
        is_vit = str(backbone.get('type')).split('.')[-1] == 'MaskedVisionTransformer'
        return {**(cls.VIT_DEFAULTS if is_vit else {}), **backbone}

    @property
    def guided_by_teacher(self) -> bool:
        """Whether the guide is the method's own teacher."""
        return self.guide is not None and self.guide.uses_teacher

    @property
    def student_needs(self) -> Read:
        """The tokens of the student's global views that at least one objective needs."""
        return union_of_needs(one.student_needs for one in self.objectives.values()) or 'pooled'

    @property
    def teacher_needs(self) -> Read | None:
        """The tokens of the teacher that at least one objective needs; None if no objective uses the teacher."""
        return union_of_needs(one.teacher_needs for one in self.objectives.values())

    def followed(self) -> dict[str, nn.Module]:
        """The student's modules of which the teacher keeps a moving average, by their name in the teacher."""
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
        self.start_followers()

    def start_followers(self) -> bool:
        """See :meth:`TrainedModel.start_followers`."""
        if self.teacher is not None:
            self.teacher.copy_from(self.followed())
        if self.guide is not None:
            self.guide.copy_from(self.backbone)
        return self.teacher is not None

    @property
    def decayed_parameters(self) -> tuple[str, ...]:
        """Names of one-dimensional parameters to which weight decay applies nevertheless.

        Weight decay skips one-dimensional parameters (norms, biases). In iBOT's code the [MASK] embedding has shape
        (1, D) and so is decayed; here its shape is (D,). Used by
        :class:`mstkit.engine.TrainableOptimWrapperConstructor`.
        """
        return ('mask_token',) if self.mask_token is not None and self.mask_token_decay else ()

    # -- one step ---------------------------------------------------------------------------------------------------

    def loss(self, inputs: list[Tensor], data_samples: list | None = None) -> dict[str, Tensor]:
        """One training step's losses.

        Args:
            inputs: V views, each (B, 3, H, W), normalized; the global ones first.
            data_samples: of the B images; only a :class:`CachedGuide` reads them (index and boxes), nobody a label.

        Returns:
            ``loss_NAME`` of each objective, scalars, weighted.
        """
        self._check_driven()
        self.check_view_count([view.shape[-1] for view in inputs])
        if self.training and self.teacher is not None:
            self.teacher.before_step(self.followed())
        step = Step(self, inputs, data_samples=data_samples)
        in_turn = sorted(self.objectives.items(), key=lambda named: named[1].comes_last)
        with self.weight_casts.in_half():
            losses = {f'loss_{name}': one.weight * one(step) for name, one in in_turn}
        self._statistics = {key: value for one in self.objectives.values() for key, value in one.statistics.items()}
        self._statistics |= step.mask_shares()
        return losses

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """mmengine's, but the values that are logged (and checked for being finite) are means over all ranks."""
        total, logged = super().parse_losses(losses)
        if dist.get_world_size() > 1:
            values = torch.stack([value.detach().float() for value in logged.values()])
            dist.all_reduce(values, 'mean')
            logged = dict(zip(logged, values.unbind(), strict=True))
        return total, logged

    def set_progress(self, progress: Progress) -> None:
        """Updates schedules (momentum, temperatures, masking) and seeds the masker for the coming iteration."""
        self._driven = True
        for part in (self.teacher, self.guide, self.masker, *self.objectives.values()):
            if part is not None:
                part.set_progress(progress)

    def after_step(self) -> None:
        """Updates the teacher and the centers; called once after every optimizer step."""
        if self.teacher is not None:
            self.teacher.after_step(self.followed())
        if self.guide is not None:
            self.guide.after_step(self.backbone)
        step_together([part for part in self.objectives.modules() if isinstance(part, CenteredHead)])

    # -- interface for hooks and runner (TrainedModel) --------------------------------------------------------------

    def branches(self) -> dict[str, nn.Module]:
        """The backbones that can be evaluated, by name."""
        teacher = {} if self.teacher is None else {'teacher': self.teacher.backbone}
        return {'student': self.backbone, **teacher}

    def last_statistics(self) -> dict[str, Tensor]:
        """Detached scalars of the last step; entropies in nats; shares of hidden and thrown patches where there are."""
        return self._statistics

    @property
    def prototypes(self) -> int | None:
        """See :attr:`TrainedModel.prototypes`."""
        return next((one.prototypes for one in self.objectives.values() if one.prototypes is not None), None)

    def check_views(self, global_size: int, local_size: int | None = None) -> None:
        """Refuses crop sizes (sides in pixels) that a component cannot take. Raises UsageError."""
        for objective in self.objectives.values():
            objective.check_views(global_size, local_size)
        self.backbone.check_image_size(global_size, True, sees_squares(self.backbone, self.encoder_sees))
        if local_size is not None:
            self.backbone.check_image_size(local_size, masked=False)
        if self.masker is not None:
            self.masker.check_view(self.backbone, global_size, self.mask_cell)

    def check_view_count(self, sizes: Sequence[int]) -> None:
        """Refuses views that do not suit the objectives, in number or order, and views that no objective reads.

        Args:
            sizes: the side of each view in pixels, in order.

        Raises:
            UsageError: with what to set in MultiCrop.
        """
        check_view_numbers(self.objectives, sizes, self.global_views, type(self).__name__)

    def check_batch(self, images: int) -> None:
        """Refuses a global batch size that an objective cannot take. Raises UsageError."""
        for objective in self.objectives.values():
            objective.check_batch(images)

    def config_key(self, module: str) -> str:
        """The config key, below ``model``, of a module: 'head' for 'objectives.ce.head' of DINO."""
        place = next((long for long in self.FLAT_KEYS if f'{module}.'.startswith(f'{long}.')), None)
        return module if place is None else self.FLAT_KEYS[place] + module.removeprefix(place)

    def panel(self, images: Tensor) -> PanelData:
        """Attention, mask and reconstruction of normalized images (B, 3, H, W), in eval mode, without side effects."""
        return panel_of(self, images)

    def _check_driven(self) -> None:
        """Raises in the second training step if :meth:`set_progress` was never called."""
        if self._driven or not self.training:
            return
        self._undriven_losses += 1
        if self._undriven_losses > 1:
            raise RuntimeError(
                'set_progress() and after_step() were never called, so the teacher would not be updated and all steps '
                "would draw the same masks. Add dict(type='ProgressHook') to custom_hooks, or call both around each "
                'optimizer step'
            )
