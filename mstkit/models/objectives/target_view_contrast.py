"""CMAE's objective: what the student makes of a masked view is contrasted with the teacher's target view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from mmengine import dist
from torch import Tensor, nn
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.models.decoders import TokenDecoder
from mstkit.models.objectives.key_contrast import output_size
from mstkit.models.objectives.objective import Objective, Surroundings, decoder_for
from mstkit.registry import MODELS
from mstkit.utils.checks import check_temperature

if TYPE_CHECKING:  # for annotations only: importing it would be circular
    from mstkit.models.step import Step


@MODELS.register_module()
class TargetViewContrast(Objective):
    """InfoNCE of images between masked view and target view (CMAE, Huang et al., arXiv 2207.13532).

    Query: a feature decoder predicts a feature of every patch of the student's masked view, but for thrown ones; their
    mean goes through projector and predictor. Key: the mean over the patches of the whole target view after the
    teacher's last block, without the final norm as in CMAE's code, through the teacher's projector. The positive key is
    that of the same image, the negatives are those of the other images of all processes. Computes in float32.

    Neck and predictor are necks of mmpretrain's, from a tuple of one (B, C) to a tuple of one (B, D).

    Args:
        decoder: the feature decoder, a :class:`TokenDecoder`; its features have the channels of the backbone's. The
            teacher has none.
        neck: the projector; the teacher has a moving average of it.
        predictor: maps the student's projections to queries; the teacher has none.
        temperature: divisor of the cosine similarities.
        weight: weight of the loss in the sum.
        surroundings: see :class:`Objective`.

    Raises:
        UsageError: sizes of neck and predictor that do not match.
    """

    target_needs = 'pooled'  # a teacher; of its tokens only the last block's
    target_layers = 1
    several_masks = True
    decoder: TokenDecoder
    neck: Any
    predictor: Any

    def __init__(
        self,
        decoder: dict,
        neck: dict,
        predictor: dict,
        surroundings: Surroundings,
        temperature: float = 0.07,
        weight: float = 1.0,
    ) -> None:
        super().__init__(surroundings, weight)
        channels = surroundings.backbone.feature_dims
        self.decoder = decoder_for(decoder, surroundings, channels)
        self.student_layers = self.decoder.student_layers
        self.neck = MODELS.build(neck, default_args=dict(in_channels=channels))
        dim = output_size(self.neck, channels, 'neck')
        self.predictor = MODELS.build(predictor, default_args=dict(in_channels=dim))
        predicted = output_size(self.predictor, dim, 'predictor')
        if predicted != dim:
            raise UsageError(
                f'neck gives {dim} numbers per image and predictor {predicted}: make them equal (out_channels of both)'
            )
        self.temperature = check_temperature('TargetViewContrast.temperature', temperature)
        self.student_needs = 'visible' if surroundings.encoder_sees == 'visible' else 'all'

    def followed(self) -> dict[str, nn.Module]:
        """See :meth:`Objective.followed`: the neck, neither decoder nor predictor."""
        return {'neck': self.neck}

    def forward(self, step: Step) -> Tensor:
        """See :meth:`Objective.forward`; all global views of an image, and all their copies, have the same key."""
        with torch.no_grad():
            (keys,) = step.teacher_part(self.name, 'neck')((step.target.layers[-1].mean(dim=1),))  # (B, D)
        (projected,) = self.neck((mean_of_places(self.decoder(step.seen), step.thrown),))
        (queries,) = self.predictor((projected,))  # (M*G*B, D)
        with torch.autocast(queries.device.type, enabled=False):
            cosines = F.normalize(queries.float(), dim=1) @ keys_of_all_ranks(F.normalize(keys.float(), dim=1)).T
            own = torch.arange(len(keys), device=keys.device) + dist.get_rank() * len(keys)
            own = own.repeat(step.copies * step.global_views)
            loss = F.cross_entropy(cosines / self.temperature, own)
        found = (cosines.argmax(dim=1) == own).float().mean()
        self.statistics = {'contrast_top1': found, 'contrast': loss.detach()}
        return loss


def mean_of_places(features: Tensor, thrown: Tensor | None) -> Tensor:
    """Means over the patches of each image that are not thrown.

    Args:
        features: (B, L, C).
        thrown: (B, h, w) bool, whose features mean nothing; None for none.

    Returns:
        (B, C).
    """
    if thrown is None:
        return features.mean(dim=1)
    kept = (~thrown).flatten(1).to(features.dtype)[..., None]  # (B, L, 1)
    return (features * kept).sum(dim=1) / kept.sum(dim=1)


def keys_of_all_ranks(keys: Tensor) -> Tensor:
    """The keys (B, D) of all ranks, rank by rank: (W*B, D); each rank has the same number."""
    return torch.cat(dist.all_gather(keys))
