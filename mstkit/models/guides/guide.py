"""Base class of guides: networks whose attention or tokens tell a masker which patches to hide."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.models.backbones import MaskedBackbone
from mstkit.models.backbones.attention_scores import SCORES
from mstkit.models.maskers import Masker
from mstkit.registry import MODELS
from mstkit.structures import Progress, TokenOutput
from mstkit.utils.checks import check_one_of
from mstkit.utils.undisturbed import evaluation_mode

if TYPE_CHECKING:  # for annotations only: importing it would be circular
    from mstkit.models.pretrainer import Pretrainer
    from mstkit.models.step import Step

_NAMES = {
    'teacher': 'TeacherGuide',
    'student': 'StudentGuide',
    'ema': 'EMAGuide',
    'cached': 'CachedGuide',
    'frozen': 'FrozenGuide',
    'predicted_loss': 'PredictedLossGuide',
    'generated': 'GeneratedMaskGuide',
    'learned': 'LearnedMaskGuide',
}


class GuidedParts(NamedTuple):
    """The parts of a method that its guide depends on.

    Attributes:
        backbone: the student's.
        masker: the method's.
        score: the method's default score, a name in :data:`SCORES`.
        normalization: mean and standard deviation of the channels on the scale 0..255, (3,) or (1,) both, with which
            the images are normalized; None if they are not.
        objectives: the method's, by name.
    """

    backbone: MaskedBackbone
    masker: Masker
    score: str
    normalization: tuple[Tensor, Tensor] | None
    objectives: Mapping[str, nn.Module]


class Guide(nn.Module):
    """Encodes unmasked images, for a masker that needs attention scores or patch tokens.

    Runs only if the masker needs scores or tokens; with a random mask it is not even kept.

    Args:
        score: the attention by which patches are ranked: 'class_token', what a patch gets from the class token;
            'received', the mean of what it gets from all patches. None is 'class_token' where an objective trains
            that token (DINO, iBOT, MST), and 'received' where none does (MAE, SimMIM, MaskFeat).

    Attributes:
        uses_teacher: whether the guide is the method's own teacher, whose attention is then computed in the forward
            pass that the teacher does anyway.
        reads_backbone: whether its scores are the attention of the student's backbone or of a copy, which then has to
            give attention.
        reads_objective: whether its scores are made by a part of an objective, which is trained with the method.
        from_tokens: whether its scores are computed from patch tokens instead of attention.
        gives_tokens: whether it gives patch tokens too, for a masker with ``needs_tokens``.

    Raises:
        UsageError: an unknown score.
    """

    uses_teacher: bool = False
    reads_backbone: bool = True
    reads_objective: ClassVar[bool] = False
    from_tokens: ClassVar[bool] = False
    gives_tokens: bool = True

    def __init__(self, score: str | None = None) -> None:
        super().__init__()
        self._given = None if score is None else check_one_of(f'{type(self).__name__}.score', score, SCORES)
        self.score: str = score or 'class_token'

    @property
    def given_score(self) -> str | None:
        """The score that was asked for; None leaves it to the method."""
        return self._given

    def prepare(self, parts: GuidedParts) -> None:
        """Called once, when the method is built and its masker needs a guide."""
        self.score = self._given or parts.score

    @abstractmethod
    def encode(self, model: Pretrainer, images: Tensor, masker: Masker) -> TokenOutput:
        """Encodes images without gradient.

        Args:
            model: the method.
            images: (B, 3, H, W), normalized as the method's, unmasked.
            masker: the attention is that of block ``masker.layer`` if it ``needs_scores``; patch tokens are there if it
                ``needs_tokens``.

        Returns:
            Tokens and attention on the grid of the student's patches.
        """

    def forward(self, step: Step, masker: Masker) -> TokenOutput:
        """Encodes ``step.images``, see :meth:`encode`."""
        return self.encode(step.model, step.images, masker)

    def set_progress(self, progress: Progress) -> None:
        """Called before every iteration."""

    def copy_from(self, backbone: MaskedBackbone) -> None:
        """Called after the student was initialized."""

    def after_step(self, backbone: MaskedBackbone) -> None:
        """Called after every optimizer step, with the student."""

    def backbones(self) -> list[nn.Module]:
        """Copies of the student's backbone that it holds."""
        return []

    @torch.no_grad()
    def read(self, backbone: MaskedBackbone, images: Tensor, masker: Masker) -> TokenOutput:
        """What ``masker`` needs of images, of a backbone in evaluation mode."""
        score: bool | str = masker.needs_scores and (self.score == 'class_token' or self.score)
        with evaluation_mode(backbone):  # type: ignore[arg-type]
            return backbone.forward_tokens(
                images,
                return_attention=score,
                attention_layer=masker.layer,
                read='all' if masker.needs_tokens else 'pooled',
            )


class GuideOnAnother(Guide):
    """Base class of guides whose scores are made from what another guide says; they pass on to it what happens."""

    @property
    @abstractmethod
    def inner(self) -> Guide:
        """The other guide."""

    def set_progress(self, progress: Progress) -> None:
        """See :meth:`Guide.set_progress`."""
        self.inner.set_progress(progress)

    def copy_from(self, backbone: MaskedBackbone) -> None:
        """See :meth:`Guide.copy_from`."""
        self.inner.copy_from(backbone)

    def after_step(self, backbone: MaskedBackbone) -> None:
        """See :meth:`Guide.after_step`."""
        self.inner.after_step(backbone)

    def backbones(self) -> list[nn.Module]:
        """See :meth:`Guide.backbones`."""
        return self.inner.backbones()


def build_guide(guide: dict | Guide | str | None, key: str = 'model.guide') -> Guide | None:
    """Builds a guide from a name ('teacher', 'ema' …), a config or a component; None or 'none' gives None.

    Args:
        guide: what to build.
        key: where it was given, for messages.

    Raises:
        UsageError: an unknown name, or a component that is no guide.
    """
    if guide is None or (isinstance(guide, str) and guide.lower() == 'none'):
        return None
    if isinstance(guide, str):
        if guide not in _NAMES:
            raise UsageError(
                f'{key} is {guide!r}: give {", ".join(map(repr, _NAMES))}, none, or a dict(type=...) of a guide'
            )
        if guide == 'frozen':
            raise UsageError(f"{key} is 'frozen', which has to say of what: dict(type='frozen', source='FILE.pth')")
        guide = dict(type=_NAMES[guide])
    elif isinstance(guide, dict) and guide.get('type') in _NAMES:
        guide = {**guide, 'type': _NAMES[guide['type']]}
    built = MODELS.build(guide) if isinstance(guide, dict) else guide
    if not isinstance(built, Guide):
        raise UsageError(f'{guide!r} is not a guide')
    return built


def objective_of_kind(
    kind: type[nn.Module], asked: str | None, parts: GuidedParts, guide: Guide, does: str, name: str
) -> str:
    """The key of the objective that a guide reads: the one that is asked for, or the only one of a kind.

    Args:
        kind: the class of the objective.
        asked: the key; None for the only one.
        parts: of the method.
        guide: who asks.
        does: what such objectives do, as in 'predict the loss of patches', for the message.
        name: a key to propose in it.

    Raises:
        UsageError: no such objective, or several and no key.
    """
    known = [key for key, one in parts.objectives.items() if isinstance(one, kind)]
    if asked is None and len(known) == 1:
        return known[0]
    if asked in known:
        return str(asked)
    verb, rest = does.split(' ', 1)
    wrong = f'{f"several objectives {verb}" if known else f"no objective {verb}s"} {rest}'
    if asked is not None:
        wrong = f'there is no {kind.__name__} {asked!r}'
    way = f"add model.objectives=dict({name}=dict(type='{kind.__name__}'))"
    if known:
        way = f'give objective={" or ".join(map(repr, known))}'
    raise UsageError(f'{type(guide).__name__}: {wrong}: {way}')
