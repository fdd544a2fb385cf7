"""ADIOS's objective: a network that hides what the student cannot do without, trained against it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from mmengine import dist
from torch import Tensor, nn
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.models.building import build_of_kind
from mstkit.models.objectives.objective import Objective, Surroundings
from mstkit.models.objectives.regularizer import sum_over_ranks
from mstkit.models.occlusion_unet import OcclusionUNet
from mstkit.registry import MODELS
from mstkit.utils.checks import check_flag, check_number, check_size, check_temperature

if TYPE_CHECKING:  # for annotations only: importing it would be circular
    from mstkit.models.step import Step

VIEWS = 2


@MODELS.register_module()
class AdversarialMasking(Objective):
    """SimCLR between a whole view and an occluded one, with occlusions that make it hard (ADIOS, Shi et al., ICML 2022,
    arXiv 2201.13100).

    An occlusion network makes N soft masks of the second view, a softmax over N at each pixel. The student sees the
    first view whole, with the hidden patches of the method's masker if there is one, and the second view N times, as
    x · (1 − m_n), so that mask n hides its own part. With z of both through one projector, the loss is

        mean over n of [SimCLR(z, z_n) + ``sparsity`` · mean over images of 1 / sin(π · share of m_n)].

    Student and projector minimize it; the occlusion network maximizes the first term and minimizes the second: the
    gradient changes its sign on the way from the images to the masks, so both learn from one backward pass, with
    separate learning rates (``lr_mult`` of the occlusion network). ADIOS's code sums over the masks instead, and
    updates the two networks by turns, each from a forward pass of its own.

    Args:
        occlusion: arguments of the :class:`OcclusionUNet`, or of a subclass that ``type`` names; ``masks`` is N.
        hidden_dim: of the projector, a linear layer, ReLU and a linear layer.
        out_dim: its output.
        temperature: divisor of the cosine similarities.
        sparsity: weight of the penalty, which is smallest where a mask covers half of the image.
        single: draw one of the N masks for each image, instead of a pass for each mask (ADIOS-s).
        weight: weight of the loss in the sum.
        surroundings: see :class:`Objective`.

    Raises:
        UsageError: an occlusion network that is none.
    """

    def __init__(
        self,
        surroundings: Surroundings,
        occlusion: Mapping[str, Any] | None = None,
        hidden_dim: int = 2048,
        out_dim: int = 128,
        temperature: float = 0.2,
        sparsity: float = 1.0,
        single: bool = False,
        weight: float = 1.0,
    ) -> None:
        super().__init__(surroundings, weight)
        config = {'type': 'OcclusionUNet', **(occlusion or {})}
        self.occlusion = build_of_kind(config, OcclusionUNet, 'an occlusion network')
        channels = surroundings.backbone.feature_dims
        hidden = check_size('AdversarialMasking.hidden_dim', hidden_dim)
        self.projector = nn.Sequential(
            nn.Linear(channels, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, check_size('AdversarialMasking.out_dim', out_dim)),
        )
        self.temperature = check_temperature('AdversarialMasking.temperature', temperature)
        self.sparsity = check_number('AdversarialMasking.sparsity', sparsity, 0, 1e6)
        self.single = check_flag('AdversarialMasking.single', single)
        self._method = surroundings.method

    def forward(self, step: Step) -> Tensor:
        """See :meth:`Objective.forward`."""
        occluded = step.views[1]
        masks = self.masks(occluded)
        shares = masks.mean(dim=(2, 3))  # (B, N)
        used = masks
        if self.single:
            drawn = torch.randint(masks.shape[1], (len(masks), 1, 1, 1), device=masks.device)
            used = masks.gather(1, drawn.expand(-1, 1, *masks.shape[2:]))
        hidden = under(occluded, reversed_gradient(used))  # (N, B, 3, H, W)
        seen = step.model.student_forward(hidden.flatten(0, 1), None, 'pooled').pooled
        features = torch.cat([self._whole(step), seen])
        with torch.autocast(features.device.type, enabled=False):
            projected = F.normalize(self.projector(features.to(occluded.dtype)), dim=1)
            contrast, found = simclr(projected.unflatten(0, (-1, len(occluded))), self.temperature)
            # Rounding may bring a share to 0 or 1, and its sine to 0 or less.
            penalty = (torch.sin(math.pi * shares).clamp_min(1e-6)).reciprocal().mean()
        self.statistics = {
            'contrast': contrast.detach(),
            'contrast_top1': found,
            'mask_penalty': penalty.detach(),
            'mask_confidence': masks.detach().amax(dim=1).mean(),
            **{f'mask_share_{n + 1}': share for n, share in enumerate(shares.detach().mean(dim=0))},
        }
        return contrast + self.sparsity * penalty

    def masks(self, images: Tensor) -> Tensor:
        """The masks (B, N, H, W) of images (B, 3, H, W), in their precision; 1 = hidden, and they sum to 1."""
        return self.occlusion(images).to(images.dtype).softmax(dim=1)

    def _whole(self, step: Step) -> Tensor:
        """The student's pooled features (B, C) of the first view."""
        if step.model.masker is None and len(step.model.objectives) == 1:
            # Nobody reads the second view whole: it is not encoded.
            return step.model.student_forward(step.views[0], None, 'pooled').pooled
        return step.student_global[: len(step.views[0])]

    def further_images(self, step: Step) -> dict[str, Tensor]:
        """See :meth:`Objective.further_images`: what is left of the image under each mask."""
        masks = self.masks(step.images)
        shares = (100 * masks.mean(dim=(0, 2, 3))).tolist()
        images = under(step.images, masks)
        return {f'mask {n + 1} ({shares[n]:.0f} %)': image for n, image in enumerate(images)}

    def check_view_count(self, sizes: Sequence[int], global_views: int) -> None:
        """Refuses anything but two global views of the same size."""
        if global_views != VIEWS or len(sizes) < VIEWS or sizes[0] != sizes[1]:
            raise UsageError(
                f'{self._method} compares a whole view with an occluded one of the same size (AdversarialMasking), but '
                f'model.global_views is {global_views}, and the views are of {", ".join(map(str, sizes))} px: set '
                'model.global_views=2 and global_crops.count=2 of MultiCrop'
            )

    def check_views(self, global_size: int, local_size: int | None) -> None:
        """Refuses views that are too small for the occlusion network."""
        self.occlusion.check_image_size(global_size)

    def check_batch(self, images: int) -> None:
        """Refuses a single image per iteration, which has no others to be told from."""
        if images < 2:
            raise UsageError(
                f'{self._method} tells the images of an iteration apart, but there is only {images}: set '
                'train_dataloader.batch_size to 2 or more'
            )


def reversed_gradient(x: Tensor) -> Tensor:
    """The same numbers, to the bit, whose gradient arrives at ``x`` with the opposite sign."""
    return 2 * x.detach() - x


def under(images: Tensor, masks: Tensor) -> Tensor:
    """x · (1 − m_n), (N, B, 3, H, W), of images (B, 3, H, W), normalized: what is hidden gets the mean color.

    Args:
        images: x.
        masks: (B, N, H, W).
    """
    return images * (1 - masks.transpose(0, 1).unsqueeze(2))


def simclr(projected: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """NT-Xent (Chen et al., ICML 2020, equation 1) of each z_n with z_0, mean over n.

    In each of these pairs all 2·B projections, of both and of all processes, are queries; the positive of each is that
    of the same image in the other, the negatives are the other 2·B − 2.

    Args:
        projected: (1 + N, B, D), of length 1, the first of them z_0; of this process.
        temperature: divisor of the cosine similarities.

    Returns:
        The loss in nats, and the share of queries whose positive is the most similar.
    """
    ranks, rank, batch = dist.get_world_size(), dist.get_rank(), projected.shape[1]
    every = projected.new_zeros(ranks, *projected.shape)
    every[rank] = projected
    every = sum_over_ranks(every).transpose(0, 1).flatten(1, 2)  # (1 + N, W*B, D)
    pairs = len(projected) - 1
    queries = torch.cat([projected[:1].expand(pairs, -1, -1), projected[1:]], dim=1)  # (N, 2*B, D)
    keys = torch.cat([every[:1].expand(pairs, -1, -1), every[1:]], dim=1)  # (N, 2*W*B, D)
    logits = queries @ keys.transpose(1, 2) / temperature
    own = torch.arange(batch, device=logits.device) + rank * batch
    itself = torch.cat([own, own + ranks * batch])
    positive = itself.roll(batch)
    logits = logits.scatter(2, itself.expand(pairs, -1).unsqueeze(2), -math.inf)
    loss = F.cross_entropy(logits.flatten(0, 1), positive.repeat(pairs))
    return loss, (logits.detach().argmax(dim=2) == positive).float().mean()
