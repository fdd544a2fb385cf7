"""AutoMAE's objective: a generator of masks that look like objects and leave a reconstruction possible."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.models.mask_generator import MaskDiscriminator, MaskGenerator
from mstkit.models.maskers.functional import placed_rectangles
from mstkit.models.objectives.objective import Objective, Surroundings
from mstkit.registry import MODELS
from mstkit.utils.checks import check_count, check_number, check_temperature

if TYPE_CHECKING:  # for annotations only: importing it would be circular
    from mstkit.models.step import Step

AREAS = (40 / 196, 160 / 196)  # of a rectangle, as a share of the patches
MARGIN = 4 / 14  # its width is at least this share of the grid's, and at least as much of the grid is left beside it


@MODELS.register_module()
class MaskGeneration(Objective):
    """Trains a :class:`MaskGenerator` against a discriminator and with the student (AutoMAE, Chen et al., PRCV 2023,
    arXiv 2303.06583).

    A :class:`GeneratedMaskGuide` turns the attention of another guide into y (B, L), a sample of a Gumbel-softmax over
    the patches of an image, by the generator that lives here, and the masker hides by y. The generator is trained

    - by a least-squares GAN: a discriminator learns to give 1 to noisy rectangles and 0 to y, the generator to be given
      1. Rectangles stand for objects: real masks are softmax(e · [in the rectangle] + u), with e = ``edge`` and u
      uniform in [0, 1] for each patch;
    - by the losses of all other objectives: the embedding of patch l is multiplied by 1 + ``strength`` ·
      (y_l − its value), which is 1 and has a gradient. So a patch becomes more likely to be hidden if a larger
      embedding of it would make the losses smaller, as far as it was visible.

    Loss and gradients are those of AutoMAE's code: ``adversarial`` · mean (D(y) − 1)² for the generator, and
    mean (D(real) − 1)² + mean D(y)² for the discriminator, whose step is there taken first, with an optimizer of its
    own. The discriminator sees maps of mean 1, where in the code their sum is 1.

    Args:
        heads: of the attention that the generator gets; None is the number of the student's, whatever block.
        adversarial: weight of the generator's part.
        strength: by which the gradient reaches y; the ``preference`` of :class:`PreferenceMasker` in AutoMAE.
        temperature: of the Gumbel-softmax.
        edge: how much a rectangle stands out.
        lr_mult: the learning rate of generator and discriminator, as a multiple of the model's.
        weight: weight of the loss in the sum; it leaves the gradient through the embeddings as it is.
        surroundings: see :class:`Objective`.

    Raises:
        UsageError: no masker; (:meth:`check_views`) a guide that does not ask the generator.
    """

    needs_scores = True
    teaches_pooled = False
    several_masks = True

    def __init__(
        self,
        surroundings: Surroundings,
        heads: int | None = None,
        adversarial: float = 0.2,
        strength: float = 0.5,
        temperature: float = 1.0,
        edge: float = 0.5,
        lr_mult: float = 1.0,
        weight: float = 1.0,
    ) -> None:
        super().__init__(surroundings, weight)
        if surroundings.masker is None:
            raise UsageError(
                f'MaskGeneration trains a generator of masks, but {surroundings.method} has no masker: give one, such '
                "as dict(type='PreferenceMasker'), and guide='generated'"
            )
        count = surroundings.backbone.attention_heads if heads is None else heads
        self.generator = MaskGenerator(check_count('MaskGeneration.heads', count, 1, 4096))
        self.discriminator = MaskDiscriminator()
        self.adversarial = check_number('MaskGeneration.adversarial', adversarial, 0, 1e6)
        self.strength = check_number('MaskGeneration.strength', strength, 0, 1e6)
        self.temperature = check_temperature('MaskGeneration.temperature', temperature)
        self.edge = check_number('MaskGeneration.edge', edge, 0, 1e3)
        self.lr_mult = check_number('MaskGeneration.lr_mult', lr_mult, 0, 1e6)
        self.asked = False  # by a guide

    def shares(self, attention: Tensor, grid: tuple[int, int]) -> Tensor:
        """y (B, L) float32 of attention (B, N, L): a random sample in training, else the softmax itself; sums to 1."""
        with torch.autocast(attention.device.type, enabled=False):
            logits = self.generator(attention.float(), grid)
            if self.training:
                return F.gumbel_softmax(logits, self.temperature, dim=1)
            return (logits / self.temperature).softmax(dim=1)

    def visibility(self, step: Step) -> Tensor | None:
        """See :meth:`Objective.visibility`: ones (G*B, h, w), whose gradient is the generator's."""
        shares = step.importance  # y, which the guide gives as its scores
        return (1 + self.strength * (shares - shares.detach())).unflatten(1, step.grid)

    def check_views(self, global_size: int, local_size: int | None) -> None:
        """Refuses a method whose masker does not hide by the masks that it generates."""
        if not self.asked:
            raise UsageError(
                f"{self.name!r} (MaskGeneration) trains a generator of masks that no guide asks: set guide='generated'"
            )

    def forward(self, step: Step) -> Tensor:
        """See :meth:`Objective.forward`."""
        shares = step.importance  # y, which the guide gives as its scores
        length, device = shares.shape[1], shares.device
        made = (shares * length).view(-1, 1, *step.grid)
        real = rectangles(len(made), step.grid, self.edge, device) * length
        with torch.autocast(device.type, enabled=False):
            judged = self.discriminator(torch.cat([real.unsqueeze(1), made.detach()]))
            of_real, of_made = judged.chunk(2)
            discriminating = (of_real - 1).square().mean() + of_made.square().mean()
            deceiving = (self.discriminator.judge(made) - 1).square().mean()
        likely = shares.detach()
        self.statistics = {
            'mask_judged_real': of_real.detach().mean(),
            'mask_judged_made': of_made.detach().mean(),
            # e to the entropy: among how many patches a mask is shared out
            'mask_spread': torch.special.entr(likely).sum(dim=1).exp().mean(),
        }
        return discriminating + self.adversarial * deceiving


def rectangles(batch: int, grid: tuple[int, int], edge: float, device: torch.device) -> Tensor:
    """Real masks for the discriminator, (B, h, w) float32: softmax over the patches of ``edge`` in a rectangle, plus
    uniform noise in [0, 1].

    The rectangle has an area of 40 to 160 of 196 patches and a width of 4 to 10 of 14, both uniform, as many rows as
    that takes or as there are, and any place; on other grids in proportion.
    """
    height, width = grid
    draw = torch.rand((4, batch, 1), device=device)
    area = height * width * (AREAS[0] + draw[0] * (AREAS[1] - AREAS[0]))
    low = max(1, math.floor(MARGIN * width))
    wide = (low + draw[1] * (max(low, width - low) - low + 1)).floor().clamp(max=width)
    tall = (area / wide).ceil().clamp(1, height)
    inside = placed_rectangles(tall, wide, (draw[2], draw[3]), grid)
    return (edge * inside + torch.rand(inside.shape, device=device)).flatten(1).softmax(dim=1).view(inside.shape)
