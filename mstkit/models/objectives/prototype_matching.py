"""MSN's objective: views with dropped patches are assigned to prototypes as the teacher assigns the target view."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.models.heads import sinkhorn_log_assignments
from mstkit.models.necks import DINONeck
from mstkit.models.objectives.objective import Objective, Surroundings
from mstkit.models.objectives.regularizer import images_of_all_ranks, sum_over_ranks
from mstkit.registry import MODELS
from mstkit.utils.checks import check_flag, check_number, check_temperature

if TYPE_CHECKING:  # for annotations only: importing it would be circular
    from mstkit.models.step import Step


@MODELS.register_module()
class PrototypeMatching(Objective):
    """Cross-entropy of assignments to prototypes, and mean-entropy maximization (MSN, Assran et al., arXiv 2204.07141).

    An assignment is softmax(logits / temperature) of pooled features. The student's views, called anchors, are the
    global ones but for the target view, whose patches the mask hides, and the local ones, called focal. The target of
    all anchors of an image is the teacher's assignment of the unmasked target view to the student's prototypes, to the
    power of 1 / ``sharpening`` and normalized. The loss is the mean cross-entropy over the anchors, plus
    ``entropy_weight`` times ln K - H, H the entropy of the mean assignment over all anchors of all processes: 0 if all
    K prototypes are used alike. With several masks of an image each masked copy is an anchor. Computes in float32.

    Args:
        neck: a :class:`DINONeck`, whose last layer has the prototypes; the logits are cosines with
            ``norm_last_layer=True``. It is applied to all views of a size together, and ``batch_norm='all'`` has
            the statistics of these. The teacher has a moving average of it.
        temperature: of both networks.
        sharpening: see above; 1 for none.
        sinkhorn: whether the targets of all processes are made to use all prototypes alike, as MSN's published config
            does, see :func:`sinkhorn_log_assignments`.
        entropy_weight: weight of the mean-entropy maximization within this loss.
        weight: weight of the loss in the sum.
        surroundings: see :class:`Objective`.

    Raises:
        UsageError: a neck of another class; a temperature or a sharpening that is not positive.
    """

    target_needs = 'pooled'
    reads_local = True
    several_masks = True

    def __init__(
        self,
        neck: dict,
        surroundings: Surroundings,
        temperature: float = 0.1,
        sharpening: float = 0.25,
        sinkhorn: bool = True,
        entropy_weight: float = 1.0,
        weight: float = 1.0,
    ) -> None:
        super().__init__(surroundings, weight)
        projection = MODELS.build(neck, default_args=dict(in_channels=surroundings.backbone.feature_dims))
        if not isinstance(projection, DINONeck):
            raise UsageError(
                f'the neck of PrototypeMatching is {type(projection).__name__}, which has no prototypes: take DINONeck'
            )
        self.neck = projection
        self.prototypes = projection.out_dim
        self.temperature = check_temperature('PrototypeMatching.temperature', temperature)
        self.sharpening = check_number('PrototypeMatching.sharpening', sharpening, 1e-3, 1)
        self.sinkhorn = check_flag('PrototypeMatching.sinkhorn', sinkhorn)
        self.entropy_weight = check_number('PrototypeMatching.entropy_weight', entropy_weight, 0, 1e6)

    def followed(self) -> dict[str, nn.Module]:
        """See :meth:`Objective.followed`: the neck."""
        return {'neck': self.neck}

    def shared_projection(self) -> nn.Module:
        """See :meth:`Objective.shared_projection`: the neck."""
        return self.neck

    def forward(self, step: Step) -> Tensor:
        """See :meth:`Objective.forward`."""
        with torch.no_grad():
            projected = step.teacher_part(self.name, 'neck').bottleneck(step.target.pooled)
            log_t = self.targets(self.neck.prototypes(projected))  # (B, K)
        logits = [self.neck(step.student_global, views=step.copies * step.global_views)]
        for tokens in step.student_local:  # of one size each
            views = len(tokens.pooled) // len(log_t)
            logits.append(self.neck(tokens.pooled, views=views, global_views=0))
        log_p = F.log_softmax(torch.cat(logits).float() / self.temperature, dim=-1)  # (V*B, K)
        t = log_t.exp()
        cross = -(t * log_p.unflatten(0, (-1, len(t))).mean(dim=0)).sum(dim=-1).mean()
        spread = mean_entropy(log_p.exp())
        entropy = -(t * log_t).sum(dim=-1).mean()
        self.statistics = {
            'teacher_entropy': entropy,
            'kl': cross.detach() - entropy,
            'mean_entropy': spread.detach(),
        }
        return cross + self.entropy_weight * (math.log(self.neck.out_dim) - spread)

    def targets(self, logits: Tensor) -> Tensor:
        """The logarithms of the targets, (B, K) float32, of the teacher's logits (B, K)."""
        log_t = F.log_softmax(logits.float() / (self.temperature * self.sharpening), dim=-1)
        return sinkhorn_log_assignments(log_t) if self.sinkhorn else log_t


def mean_entropy(probabilities: Tensor) -> Tensor:
    """The entropy, in nats, of the mean of the distributions (M, K) of all ranks; with gradients."""
    mean = sum_over_ranks(probabilities.sum(dim=0)) / images_of_all_ranks(probabilities[None])
    # A prototype that nobody is near adds 0, with a finite gradient.
    return -(mean * mean.clamp_min(torch.finfo(mean.dtype).tiny).log()).sum()
