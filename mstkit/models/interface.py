"""What the hooks and the runner may ask of a model that is being trained, and what any other model answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor, nn

from mstkit.structures import PanelData, Progress


class TrainedModel:
    """The questions, each with the answer of a model that knows nothing of them.

    A :class:`Pretrainer` overrides them. For any other model, such as an algorithm of mmpretrain's,
    :func:`interface_of` gives a :class:`ForeignModel`, so that nobody else has to ask which methods a model has.

    Attributes:
        static_graph: whether every step uses the same parameters in the same way, which helps DDP.
        global_views: how many views of an image go through its networks as one batch.
        decayed_parameters: names of parameters that are decayed although they have one dimension.
    """

    static_graph: ClassVar[bool] = False
    global_views: int = 1

    @property
    def decayed_parameters(self) -> tuple[str, ...]:
        return ()

    @property
    def needs_progress(self) -> bool:
        """Whether somebody has to call :meth:`set_progress` and :meth:`after_step`."""
        return True

    def set_progress(self, progress: Progress) -> None:
        """Told before every iteration where the run stands."""

    def after_step(self) -> None:
        """Told after every optimizer step."""

    def branches(self) -> dict[str, nn.Module]:
        """The backbones that can be evaluated, by name; the first is the one that is trained."""
        return {}

    def last_statistics(self) -> dict[str, Tensor]:
        """Detached scalars of the last step."""
        return {}

    @property
    def prototypes(self) -> int | None:
        """Over how many the logits are that views are compared by; None where there are none."""
        return None

    def panel(self, images: Tensor) -> PanelData | None:
        """What one step sees of images (B, 3, H, W), normalized, for a panel; None where there is nothing to show."""
        return None

    def check_views(self, global_size: int, local_size: int | None = None) -> None:
        """Refuses sizes of views, in pixels, that the model cannot take. Raises UsageError."""

    def check_view_count(self, sizes: Sequence[int]) -> None:
        """Refuses a number of views that the model cannot take. Raises UsageError."""

    def check_batch(self, images: int) -> None:
        """Refuses a number of images per iteration, over all ranks. Raises UsageError."""

    def config_key(self, module: str) -> str:
        """Where the config of a module is, below ``model``."""
        return module


class ForeignModel(TrainedModel):
    """The answers of a model that was not written for mstkit.

    Args:
        model: any; its ``backbone``, where it has one, is what can be evaluated.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    @property
    def needs_progress(self) -> bool:
        """It follows the optimizer by itself, if at all."""
        return False

    def branches(self) -> dict[str, nn.Module]:
        """Its backbone."""
        backbone = getattr(self.model, 'backbone', None)
        return {'backbone': backbone} if isinstance(backbone, nn.Module) else {}


@runtime_checkable
class CompilablePart(Protocol):
    """A part of a model that hands functions of its own to a compiler."""

    def use_compiled(self, compiler: Callable[..., Callable]) -> None:
        """Keeps ``compiler(function)`` of each function that it wants compiled."""


@runtime_checkable
class StatisticsOverViews(Protocol):
    """A part of a model whose batch normalization sees several views together."""

    def values_per_statistic(self, images: int, views: int) -> int:
        """How many values a channel's statistic is of, for a batch of images with so many views."""


def interface_of(model: Any) -> TrainedModel:
    """The model itself where it is a :class:`TrainedModel`, else a :class:`ForeignModel` of it."""
    return model if isinstance(model, TrainedModel) else ForeignModel(model)
