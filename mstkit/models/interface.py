"""The interface between a trained model and the hooks and runner, with defaults for models of other libraries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor, nn

from mstkit.structures import PanelData, Progress


class TrainedModel:
    """Everything that hooks and runner use of a model, with default implementations.

    :class:`Pretrainer` overrides them. For any other model, such as an algorithm of mmpretrain's,
    :func:`interface_of` gives a :class:`ForeignModel`, so that callers need no ``hasattr``.

    Attributes:
        static_graph: whether every step uses the same parameters, see DistributedDataParallel's ``static_graph``.
        global_views: how many views of an image are encoded as one batch.
        decayed_parameters: names of one-dimensional parameters to which weight decay applies nevertheless.
    """

    static_graph: ClassVar[bool] = False
    global_views: int = 1

    @property
    def decayed_parameters(self) -> tuple[str, ...]:
        return ()

    @property
    def needs_progress(self) -> bool:
        """Whether the model depends on calls of :meth:`set_progress` and :meth:`after_step`."""
        return True

    def set_progress(self, progress: Progress) -> None:
        """Called before every iteration."""

    def after_step(self) -> None:
        """Called after every optimizer step."""

    def branches(self) -> dict[str, nn.Module]:
        """The backbones that can be evaluated, by name; the trained one first."""
        return {}

    def start_followers(self) -> bool:
        """Makes what follows the backbone, a teacher or a guide, equal to it, after its weights were loaded.

        Returns:
            Whether there is such a thing.
        """
        return False

    def last_statistics(self) -> dict[str, Tensor]:
        """Detached scalars of the last step."""
        return {}

    @property
    def prototypes(self) -> int | None:
        """K of the logits by which views are compared; None if the method has no such logits."""
        return None

    def panel(self, images: Tensor) -> PanelData | None:
        """Attention, mask and reconstruction of normalized images (B, 3, H, W), for a panel; None if it has none."""
        return None

    def check_views(self, global_size: int, local_size: int | None = None) -> None:
        """Refuses view sizes (sides in pixels) that the model cannot take. Raises UsageError."""

    def check_view_count(self, sizes: Sequence[int]) -> None:
        """Refuses a number or order of views (sides in pixels) that the model cannot take. Raises UsageError."""

    def check_batch(self, images: int) -> None:
        """Refuses a global batch size (images per iteration over all ranks). Raises UsageError."""

    def config_key(self, module: str) -> str:
        """The config key, below ``model``, of a module."""
        return module


class ForeignModel(TrainedModel):
    """The interface of a model that was not written for mstkit.

    Args:
        model: any module; its ``backbone``, if it has one, is what can be evaluated.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    @property
    def needs_progress(self) -> bool:
        """False: such models know neither method."""
        return False

    def branches(self) -> dict[str, nn.Module]:
        """``model.backbone``, if there is one."""
        backbone = getattr(self.model, 'backbone', None)  # OpenMMLab's models call it so, without a common class
        return {'backbone': backbone} if isinstance(backbone, nn.Module) else {}


@runtime_checkable
class CompilablePart(Protocol):
    """A module that compiles some of its own functions instead of being compiled as a whole."""

    def use_compiled(self, compiler: Callable[..., Callable]) -> None:
        """Replaces the functions that are worth compiling by ``compiler(function)``."""


@runtime_checkable
class OwnLearningRate(Protocol):
    """A module that learns at another rate than the model around it, as every objective may.

    Attributes:
        lr_mult: the learning rate of its parameters, as a multiple of that which they would have without it.
    """

    lr_mult: float


@runtime_checkable
class StatisticsOverViews(Protocol):
    """A module whose batch normalization may compute statistics over several views together."""

    def values_per_statistic(self, images: int, views: int) -> int:
        """Number of values per channel that a batch statistic is computed from.

        Args:
            images: B per rank.
            views: views that the teacher encodes.
        """


def interface_of(model: Any) -> TrainedModel:
    """The model itself if it is a :class:`TrainedModel`, else wrapped in a :class:`ForeignModel`."""
    return model if isinstance(model, TrainedModel) else ForeignModel(model)
