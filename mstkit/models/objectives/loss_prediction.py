"""Predicting which patches are hard: the order of their losses, learned beside another objective."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.models.decoders import TokenDecoder
from mstkit.models.objectives.objective import Objective, Surroundings, decoder_for, source_of_errors
from mstkit.registry import MODELS
from mstkit.utils.checks import check_flag, check_number

if TYPE_CHECKING:  # for annotations only: importing it would be circular
    from mstkit.models.step import Step


@MODELS.register_module()
class LossPrediction(Objective):
    """Learns which of two hidden patches of an image has the larger loss (HPM, Wang et al., CVPR 2023, 2304.05919).

    A predictor gives one number z per patch from the student's tokens of the masked image. Its loss is a binary
    cross-entropy over pairs of hidden patches of an image, −log σ(z_i − z_j) where patch i has the larger loss of the
    two; see :func:`ranking_loss`. Absolute losses, which shrink during training, play no part. The losses are those of
    another objective in the same step; no gradient reaches them, so predicting badly in order to be predictable does
    not pay. As in HPM's code the encoder is trained by this loss as well.

    The teacher keeps a moving average of the predictor if there is a teacher, and :class:`PredictedLossGuide` ranks the
    patches of whole images by it.

    Args:
        decoder: the predictor, a :class:`TokenDecoder` with one value per patch; by default HPM's, a
            :class:`ViTDecoder` of 8 layers, 512 channels and 16 heads.
        of: the key of the objective whose losses are ranked, which comes before this one: a :class:`MaskedPrediction`
            or :class:`PatchDistillation`. None for the first of them.
        train_encoder: whether this loss trains the encoder too, or the predictor alone.
        lr_mult: the learning rate of the predictor, as a multiple of the model's.
        weight: weight of the loss in the sum; 1 in HPM.
        surroundings: see :class:`Objective`.

    Raises:
        UsageError: no masker; no objective with losses of patches before this one; a decoder that reads inner blocks.
    """

    several_masks = True
    predictor: TokenDecoder

    def __init__(
        self,
        surroundings: Surroundings,
        decoder: dict | None = None,
        of: str | None = None,
        train_encoder: bool = True,
        lr_mult: float = 1.0,
        weight: float = 1.0,
    ) -> None:
        super().__init__(surroundings, weight)
        if surroundings.masker is None:
            raise UsageError(
                f'LossPrediction ranks hidden patches, but {surroundings.method} has no masker: give one, such as '
                "dict(type='TopShareMasker')"
            )
        self.reads_errors_of: str = source_of_errors('LossPrediction', of, surroundings.objectives)
        self.predictor = decoder_for({'type': 'ViTDecoder', **(decoder or {})}, surroundings, 1)
        if self.predictor.out_channels != 1:
            raise UsageError(
                f'LossPrediction.decoder.out_channels is {self.predictor.out_channels}, but a patch has one loss: '
                'leave it out'
            )
        if self.predictor.student_layers:
            raise UsageError(
                f'LossPrediction.decoder is a {type(self.predictor).__name__}, which reads inner blocks, but a guide '
                'predicts from the last one alone: take ViTDecoder'
            )
        self.train_encoder = check_flag('LossPrediction.train_encoder', train_encoder)
        self.lr_mult = check_number('LossPrediction.lr_mult', lr_mult, 0, 1e6)
        self.student_needs = 'visible' if surroundings.encoder_sees == 'visible' else 'all'

    def followed(self) -> dict[str, nn.Module]:
        """See :meth:`Objective.followed`: the predictor."""
        return {'predictor': self.predictor}

    def forward(self, step: Step) -> Tensor:
        """See :meth:`Objective.forward`."""
        seen = step.seen
        if not self.train_encoder:
            seen = seen._replace(patch_tokens=seen.patch_tokens.detach(), pooled=seen.pooled.detach())
        assert step.mask is not None
        predicted = self.predictor(seen).squeeze(-1)  # (B, L)
        loss, accuracy = ranking_loss(predicted, step.patch_errors[self.reads_errors_of], step.mask.flatten(1))
        self.statistics = {'rank_accuracy': accuracy}
        return loss


def ranking_loss(predicted: Tensor, errors: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over pairs (i, j) of hidden patches of an image with e_i > e_j of −log σ(z_i − z_j); in float32.

    All pairs of a batch have the same weight, whichever image they belong to; those of equal errors do not count. HPM's
    code adds 1e-6 to σ before the logarithm.

    Args:
        predicted: (B, L), z.
        errors: (B, L), e, without gradient.
        hidden: (B, L) bool.

    Returns:
        The loss in nats, and the share of the pairs whose order is predicted; both zero if there are no pairs.
    """
    predicted = predicted.float()
    difference = predicted.unsqueeze(2) - predicted.unsqueeze(1)  # (B, L, L), z_i − z_j
    harder = errors.unsqueeze(2) > errors.unsqueeze(1)
    pairs = harder & hidden.unsqueeze(2) & hidden.unsqueeze(1)  # each pair once: i is the harder one
    count = pairs.sum().clamp_min(1)
    loss = (F.softplus(-difference) * pairs).sum() / count
    return loss, (pairs & (difference.detach() > 0)).sum() / count
