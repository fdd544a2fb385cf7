"""iBOT's objective: for each hidden patch, the student predicts the teacher's assignment of the visible patch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.models.heads import patch_weights
from mstkit.models.necks import DINONeck
from mstkit.models.objectives.cross_view import head_for
from mstkit.models.objectives.objective import Objective, Surroundings, on_grid
from mstkit.registry import MODELS
from mstkit.structures import Progress, TokenOutput, VisibleOutput

if TYPE_CHECKING:  # for annotations only: importing it would be circular
    from mstkit.models.step import Step


@MODELS.register_module()
class PatchDistillation(Objective):
    """Cross-entropy of hidden patches within a view (iBOT, Zhou et al., ICLR 2022, eq. 2), with its own center.

    With several masks of an image it is the mean over the copies; the center is that of the patches of whole images,
    each counted once, and with ``centering='sinkhorn'`` the hidden patches of all copies use the prototypes alike.

    Args:
        head: the loss, for example ``dict(type='IBOTHead')``.
        neck: the projection of patch tokens, (M, C) to (M, K); None uses the neck of another objective (iBOT's shared
            head, the variant that the paper recommends).
        shared_with: the name of that objective.
        weight: weight of the loss in the sum.
        surroundings: see :class:`Objective`.

    Raises:
        UsageError: without a masker; a projection with batch normalization; a head whose ``out_dim`` is not the neck's.
    """

    student_needs = 'hidden'
    teacher_needs = 'all'  # the center is the mean over all of the teacher's patches
    gives_patch_errors = True
    several_masks = True
    head: Any
    neck: Any

    def __init__(
        self,
        head: dict,
        surroundings: Surroundings,
        neck: dict | None = None,
        shared_with: str = 'ce',
        weight: float = 1.0,
    ) -> None:
        super().__init__(surroundings, weight)
        if surroundings.masker is None:
            raise UsageError(
                'patch_head is a loss on hidden patches, but there is no masker: give one, such as '
                "dict(type='BlockMasker'), or leave patch_head out"
            )
        self.neck, self._neck_of, projection = None, shared_with, None
        if neck is not None:
            self.neck = MODELS.build(neck, default_args=dict(in_channels=surroundings.backbone.feature_dims))
            self._neck_of, projection = '', self.neck
        elif shared_with in surroundings.objectives:
            projection = surroundings.objectives[shared_with].shared_projection()
        if projection is None:
            known = ', '.join(surroundings.objectives) or 'none'
            raise UsageError(
                f'PatchDistillation shares the neck of the objective {shared_with!r}, but there is no such objective '
                f'before it, or it has no neck (objectives before it: {known}): set shared_with to one with a neck, '
                'or give a neck'
            )
        name = 'neck' if self.neck is None else 'patch_neck'
        if isinstance(projection, DINONeck) and projection.batch_norm:
            raise UsageError(
                f'{name}.batch_norm={projection.batch_norm!r}: a step can have no hidden patches to compute batch '
                'statistics of, and they differ from those of pooled features; set it to None, or give a patch_neck '
                'without batch normalization'
            )
        self.head = head_for(projection, head, 'patch_head', name)

    def followed(self) -> dict[str, nn.Module]:
        """See :meth:`Objective.followed`: the neck, if it is not shared."""
        return {} if self.neck is None else {'neck': self.neck}

    def shared_projection(self) -> nn.Module | None:
        """See :meth:`Objective.shared_projection`: the neck, if it is this objective's own."""
        return self.neck

    def forward(self, step: Step) -> Tensor:
        """See :meth:`Objective.forward`; the projection's last layer is applied to the H hidden patches only."""
        owner = self._neck_of or self.name
        student, mask = step.student, step.mask
        assert mask is not None
        chosen = mask.flatten().nonzero().squeeze(1) if student.hidden is None else student.hidden  # (H,)
        with torch.no_grad():
            neck = step.teacher_part(owner, 'neck')
            tokens = step.teacher.patch_tokens.flatten(0, 1)  # (G*B*L, C)
            of_image = chosen if step.copies == 1 else chosen % len(tokens)  # the teacher saw each view once
            if self.head.centering == 'mean':
                features = neck.bottleneck(tokens)  # (G*B*L, D)
                targets = neck.prototypes(features[of_image])
                # The last layer is linear: the mean of all patches' logits is the logit of the patches' mean. In
                # float32, because in half precision this single row is less exact than a mean over many logits.
                with torch.autocast(features.device.type, enabled=False):
                    mean = neck.prototypes(features.float().mean(dim=0, keepdim=True))
                self.head.remember(mean * len(features), len(features))
            else:  # only the center asks for visible patches
                targets = neck.prototypes(neck.bottleneck(tokens[of_image]))
        predicted = step.part(owner, 'neck')(student.patch_tokens.flatten(0, 1)[chosen])
        loss = self.head.loss(predicted, targets, patch_weights(mask.flatten(1), chosen))
        if step.keeps_errors(self.name):
            step.patch_errors[self.name] = on_grid(self.head.errors, chosen, mask.flatten(1).shape)
        self.statistics = self.head.statistics
        return loss

    def errors_of(self, step: Step, seen: TokenOutput | VisibleOutput) -> Tensor:
        """See :meth:`Objective.errors_of`: cross-entropies, for which all patches go through the projection."""
        owner = self._neck_of or self.name
        with torch.no_grad():
            logits = step.teacher_part(owner, 'neck')(step.teacher.patch_tokens.flatten(0, 1))
            targets = self.head.teacher_log_probabilities(logits).exp()  # (G*B*L, K)
        predicted = step.part(owner, 'neck')(seen.patch_tokens.flatten(0, 1))
        return self.head.cross_entropies(predicted, targets).view(seen.patch_tokens.shape[:2])

    def set_progress(self, progress: Progress) -> None:
        """Sets the teacher's temperature."""
        self.head.set_progress(progress)
