"""SimCLR's objective: the views of an image are told apart from those of the batch's other images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from mmengine import dist
from torch import Tensor
from torch.distributed.nn.functional import all_gather
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.models.objectives.key_contrast import output_size
from mstkit.models.objectives.objective import Objective, Surroundings
from mstkit.registry import MODELS
from mstkit.utils.checks import check_flag, check_temperature

if TYPE_CHECKING:  # for annotations only: importing it would be circular
    from mstkit.models.step import Step


@MODELS.register_module()
class ViewContrast(Objective):
    """NT-Xent between the views of an image (SimCLR, Chen et al., ICML 2020, equation 1), as CAN adds it to MAE.

    z is the student's pooled feature of a global view, masked as it is, through a neck and scaled to length 1. With V
    views of each of the B images, the loss is the mean over the ordered pairs (i, j) of views of the same image of
    ``-log(exp(z_i z_j / T) / sum over k != i of exp(z_i z_k / T))``, k over the V*B views of all processes. Views are
    the global ones, and with several masks of an image (``masks_per_image``) each of its masked copies. In MAE, whose
    encoder sees a quarter of the patches, two views cost half of what they cost in SimCLR (CAN: Mishra et al., A
    simple, efficient and scalable contrastive masked autoencoder, arXiv 2210.16870). Computes in float32.

    ``decoupled`` leaves the views of the same image out of that sum (DCL: Yeh et al., Decoupled contrastive learning,
    ECCV 2022, equation 6). With them, a pair that is told apart already scales the gradients of all others down, which
    costs the more the fewer images a batch has.

    Args:
        neck: the projector, one of mmpretrain's: from a tuple of one (B, C) to a tuple of one (B, D).
        temperature: T.
        decoupled: sum over the views of other images alone.
        weight: weight of the loss in the sum.
        surroundings: see :class:`Objective`.

    Raises:
        UsageError: a neck that does not take pooled features.
    """

    several_masks = True
    neck: Any

    def __init__(
        self,
        neck: dict,
        surroundings: Surroundings,
        temperature: float = 0.1,
        decoupled: bool = False,
        weight: float = 1.0,
    ) -> None:
        super().__init__(surroundings, weight)
        channels = surroundings.backbone.feature_dims
        self.neck = MODELS.build(neck, default_args=dict(in_channels=channels))
        output_size(self.neck, channels, 'neck')
        self.temperature = check_temperature('ViewContrast.temperature', temperature)
        self.decoupled = check_flag('ViewContrast.decoupled', decoupled)

    def forward(self, step: Step) -> Tensor:
        """See :meth:`Objective.forward`."""
        views = step.copies * step.global_views
        if views < 2:
            raise UsageError(
                'ViewContrast compares views of an image, and there is one: set model.global_views=2 with '
                'global_crops.count=2 of MultiCrop, or model.masks_per_image=2'
            )
        (projected,) = self.neck((step.student_global,))  # (V*B, D), view by view
        with torch.autocast(projected.device.type, enabled=False):
            loss, found = nt_xent(F.normalize(projected.float(), dim=1), views, self.temperature, self.decoupled)
        self.statistics = {'contrast_top1': found.detach(), 'contrast': loss.detach()}
        return loss

    def check_batch(self, images: int) -> None:
        """Refuses a single image, which there is nothing to tell apart from."""
        if images < 2:
            raise UsageError(
                'ViewContrast compares the images of an iteration, but there is one: set '
                '--cfg-options train_dataloader.batch_size=2 or more, or leave the objective out'
            )


def nt_xent(own: Tensor, views: int, temperature: float, decoupled: bool = False) -> tuple[Tensor, Tensor]:
    """NT-Xent of this process's projections against those of all processes, each of which has the same number.

    Args:
        own: (V*B, D) of length 1, view by view.
        views: V.
        temperature: divisor of the cosine similarities.
        decoupled: whether the views of the same image are left out of the sum over the others.

    Returns:
        The loss, and the share of the views whose nearest neighbor is of the same image; scalars.
    """
    every = torch.cat(all_gather(own)) if dist.get_world_size() > 1 else own  # (W*V*B, D), rank by rank
    rows = torch.arange(len(own), device=own.device)
    first = dist.get_rank() * len(own)
    logits = (own @ every.T / temperature).scatter(1, (first + rows)[:, None], -torch.inf)  # never itself
    steps = torch.arange(1, views, device=own.device) * (len(own) // views)
    others = first + (rows[:, None] + steps) % len(own)  # (V*B, V-1), where the image's other views are
    among = logits.scatter(1, others, -torch.inf) if decoupled else logits
    loss = (among.logsumexp(dim=1, keepdim=True) - logits.gather(1, others)).mean()
    return loss, (logits.argmax(dim=1, keepdim=True) == others).any(dim=1).float().mean()
