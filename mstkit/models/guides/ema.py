"""A moving average of the encoder that exists to guide the masker, for methods without a teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.models.backbones import MaskedBackbone
from mstkit.models.guides.guide import Guide, GuidedParts
from mstkit.models.maskers import Masker
from mstkit.models.momentum_teacher import MomentumTeacher
from mstkit.registry import MODELS
from mstkit.structures import Progress, TokenOutput
from mstkit.utils.checks import check_probability

if TYPE_CHECKING:  # for annotations only: importing it would be circular
    from mstkit.models.pretrainer import Pretrainer


@MODELS.register_module()
class EMAGuide(Guide):
    """An exponential moving average of the student's encoder, updated after every optimizer step.

    It is a :class:`MomentumTeacher` of the encoder alone, always in evaluation mode, and a part of the checkpoint.

    Args:
        momentum: m of θ_g ← m θ_g + (1 − m) θ_s. The default averages over about a hundred steps, for short runs;
            with tens of thousands of steps take 0.999.
        end_momentum: m at the end of the run, in between it follows half a cosine; None keeps ``momentum``.
        score: see :class:`Guide`.

    Raises:
        UsageError: a momentum outside [0, 1], or one that falls.
    """

    average: MomentumTeacher

    def __init__(self, momentum: float = 0.99, end_momentum: float | None = None, score: str | None = None) -> None:
        super().__init__(score)
        check_probability('EMAGuide.momentum', momentum)
        end = momentum if end_momentum is None else check_probability('EMAGuide.end_momentum', end_momentum)
        if end < momentum:
            raise UsageError(
                f'EMAGuide.end_momentum is {end!r}, below momentum={momentum!r}: give a larger one, or None'
            )
        # Running statistics are copied: in evaluation mode the average makes none of its own.
        self._momentum: dict[str, Any] = dict(momentum=momentum, end_momentum=end, buffers='copy')

    def prepare(self, parts: GuidedParts) -> None:
        """See :meth:`Guide.prepare`; copies the encoder."""
        super().prepare(parts)
        self.average = MomentumTeacher({'backbone': parts.backbone}, **self._momentum).eval()  # type: ignore[dict-item]

    def train(self, mode: bool = True) -> EMAGuide:
        """Leaves it in evaluation mode."""
        return super().train(False)

    def encode(self, model: Pretrainer, images: Tensor, masker: Masker) -> TokenOutput:
        """See :meth:`Guide.encode`."""
        return self.read(self.average.get_submodule('backbone'), images, masker)  # type: ignore[arg-type]

    def set_progress(self, progress: Progress) -> None:
        """Sets the momentum of the coming step."""
        self.average.set_progress(progress)

    def copy_from(self, backbone: MaskedBackbone) -> None:
        """See :meth:`Guide.copy_from`."""
        self.average.copy_from({'backbone': backbone})  # type: ignore[dict-item]

    def after_step(self, backbone: MaskedBackbone) -> None:
        """Moves the average."""
        self.average.after_step({'backbone': backbone})  # type: ignore[dict-item]

    def backbones(self) -> list[nn.Module]:
        """See :meth:`Guide.backbones`."""
        return [self.average.get_submodule('backbone')]
