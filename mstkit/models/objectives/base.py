"""What an objective is: one loss on a step, with all that it needs to compute it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from torch import Tensor, nn

from mstkit.models.backbones import MaskedBackbone
from mstkit.models.maskers import Masker
from mstkit.registry import MODELS
from mstkit.structures import Progress, Read
from mstkit.utils.checks import check_number

if TYPE_CHECKING:  # for the annotation: a step asks objectives, not the other way round
    from mstkit.models.step import Step


class Surroundings(NamedTuple):
    """What an objective is built into.

    Attributes:
        backbone: the student's; sizes that follow from it are filled in where a config leaves them out.
        masker: what hides patches, or None.
        objectives: those that were built before, by name; an objective may share a part of one of them.
        method: the name of the method, for messages.
        encoder_sees: what the student's encoder is given of a masked image, see :class:`Pretrainer`.
        normalization: mean and deviation of the channels on the scale of 0 to 255, (3,) or (1,) both: what normalized
            images are multiplied by and what is added, to have pixels again. None where nobody says.
    """

    backbone: MaskedBackbone
    masker: Masker | None
    objectives: Mapping[str, Objective]
    method: str
    encoder_sees: Literal['mask_token', 'visible'] = 'mask_token'
    normalization: tuple[Tensor, Tensor] | None = None


class Objective(nn.Module):
    """One loss of a pretrainer, with its projection, decoder, target and head: their parameters live here.

    A subclass says what it needs, builds its parts in ``__init__`` and writes :meth:`forward`. What no objective
    needs is not computed.

    Args:
        surroundings: filled in by the pretrainer.
        weight: what the loss is multiplied by.

    Attributes:
        name: under which the pretrainer has it: the loss is logged as ``loss_NAME``.
        student_needs: the tokens of the global views that are read of the student: 'pooled', 'hidden' (that and the
            hidden patches), 'visible' (that and the visible patches, as ``step.visible``, of an encoder that sees
            these alone) or 'all'. Such an encoder makes no others, and an objective that needs them is refused.
        teacher_needs: the same of the teacher; None where no teacher is read, which is then not asked.
        reads_local: whether it reads the local views too.
        prototypes: over how many the logits are that views are compared by; None where there are none.
        statistics: detached scalars of the last step.
    """

    name: str = ''
    student_needs: Read = 'pooled'
    teacher_needs: Read | None = None
    reads_local: bool = False
    prototypes: int | None = None

    def __init__(self, surroundings: Surroundings, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = check_number(f'weight of {type(self).__name__}', weight, 0, 1e6)
        self.statistics: dict[str, Tensor] = {}

    @abstractmethod
    def forward(self, step: Step) -> Tensor:
        """The loss of a step, a scalar and a mean over the images; fills :attr:`statistics`."""

    def followed(self) -> dict[str, nn.Module]:
        """Parts of which the teacher keeps a moving average, by attribute: a projection, not a predictor."""
        return {}

    def set_progress(self, progress: Progress) -> None:
        """Prepares what changes over a run for the coming iteration."""

    def restore(self, step: Step) -> Tensor | None:
        """What the student makes of the images of a step, for a panel: (B, 3, H, W), normalized, or None."""
        return None

    def show_target(self, step: Step) -> Tensor | None:
        """What :meth:`restore` should look like, in the same form; None where that is the image itself."""
        return None

    def check_view_count(self, sizes: Sequence[int], global_views: int) -> None:
        """Refuses views (their sides in pixels) that are not those which it compares. Raises UsageError."""

    def check_views(self, global_size: int, local_size: int | None) -> None:
        """Refuses sizes of views that it has no use for. Raises UsageError."""

    def check_batch(self, images: int) -> None:
        """Refuses a number of images per iteration, over all ranks. Raises UsageError."""


def build_objectives(configs: Mapping[str, dict[str, Any] | None], surroundings: Surroundings) -> nn.ModuleDict:
    """Builds objectives in their order, each told of those before it; None leaves one out."""
    built: dict[str, Any] = {}
    for name, config in configs.items():
        if config is None:
            continue
        # A plain dict: mmengine's ConfigDict would rebuild the surroundings as if they were a part of the config.
        plain = dict(config) if isinstance(config, Mapping) else config
        objective = MODELS.build(plain, default_args=dict(surroundings=surroundings._replace(objectives=built)))
        objective.name = name
        built[name] = objective
    return nn.ModuleDict(built)
