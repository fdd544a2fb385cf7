"""One training step of lightly's DINO or iBOT with timm's ViT-S/16, as in the examples of lightly's documentation.

DINO processes each view on its own, iBOT all global views together and all local views together, as documented. The
recipes are those of our configs: AdamW, drop path 0.1 in the student, gradient clipping, K prototypes.
"""

from __future__ import annotations

import copy
from typing import Any

import timm
import torch
from lightly.loss import DINOLoss, IBOTPatchLoss
from lightly.models.modules import DINOProjectionHead, MaskedVisionTransformerTIMM
from lightly.models.utils import update_drop_path_rate, update_momentum
from torch import Tensor, nn

from contest.lightly_parts import ibot_forward
from contest.peer_step import PeerStep


class LightlyStep(PeerStep):
    """Base class of lightly's steps.

    Args:
        sizes: see :class:`PeerStep`; so are ``batch``, ``device`` and ``dtype``.
        out_dim: number of prototypes.
    """

    def __init__(self, sizes: list[int], batch: int, device: str, dtype: str, out_dim: int) -> None:
        super().__init__(sizes, batch, device, dtype)
        self.teacher, self.student = self.backbones()
        self.student_head = DINOProjectionHead(384, 2048, 256, out_dim, freeze_last_layer=1)
        self.teacher_head = DINOProjectionHead(384, 2048, 256, out_dim)
        self.teacher_head.load_state_dict(self.student_head.state_dict())
        for module in (self.teacher, self.teacher_head):
            module.requires_grad_(False)
        self.modules = nn.ModuleList([self.teacher, self.student, self.student_head, self.teacher_head])
        self.losses = self.criteria(out_dim).to(self.device)
        self.modules.to(self.device)
        trained = [*self.student.parameters(), *self.student_head.parameters()]
        self.trained = [parameter for parameter in trained if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=5e-4, weight_decay=0.04)

    def backbones(self) -> tuple[nn.Module, nn.Module]:
        """The teacher's and the student's."""
        raise NotImplementedError

    def criteria(self, out_dim: int) -> nn.ModuleList:
        """The losses."""
        raise NotImplementedError

    def clip(self) -> None:
        """The norm of all gradients together, at 3."""
        nn.utils.clip_grad_norm_(self.trained, 3.0)

    def follow(self) -> None:
        """The moving average of network and head."""
        update_momentum(self.student, self.teacher, m=0.996)
        update_momentum(self.student_head, self.teacher_head, m=0.996)


class LightlyDINO(LightlyStep):
    """lightly's DINO."""

    def backbones(self) -> tuple[nn.Module, nn.Module]:
        """timm's networks."""
        settings: dict[str, Any] = dict(num_classes=0, dynamic_img_size=True)
        teacher = timm.create_model('vit_small_patch16_224', **settings)
        return teacher, timm.create_model('vit_small_patch16_224', drop_path_rate=0.1, **settings)

    def criteria(self, out_dim: int) -> nn.ModuleList:
        """DINO's."""
        return nn.ModuleList([DINOLoss(output_dim=out_dim)])

    def forward(self) -> Tensor:
        """View by view."""
        with self.phase('teacher'), torch.no_grad():
            targets = [self.teacher_head(self.teacher(view)) for view in self.views[:2]]
        with self.phase('student'):
            predicted = [self.student_head(self.student(view)) for view in self.views]
        return self.losses[0](targets, predicted)


class LightlyIBOT(LightlyStep):
    """lightly's iBOT."""

    def backbones(self) -> tuple[nn.Module, nn.Module]:
        """timm's network within lightly's."""
        vit = timm.create_model('vit_small_patch16_224', num_classes=0, dynamic_img_size=True)
        teacher = MaskedVisionTransformerTIMM(vit=vit, antialias=False, pos_embed_initialization='skip')
        student = copy.deepcopy(teacher)
        update_drop_path_rate(student.vit, drop_path_rate=0.1, mode='linear')
        return teacher, student

    def criteria(self, out_dim: int) -> nn.ModuleList:
        """DINO's and that of hidden patches."""
        return nn.ModuleList([DINOLoss(output_dim=out_dim), IBOTPatchLoss(output_dim=out_dim)])

    def forward(self) -> Tensor:
        """See :func:`contest.lightly_parts.ibot_forward`."""
        heads = self.student_head, self.teacher_head
        out = ibot_forward(self.student, self.teacher, heads, self.views, patch=16, phase=self.phase)
        whole = self.losses[0](list(out.targets.chunk(2)), list(out.logits.chunk(len(self.views))))
        return whole + self.losses[1](out.hidden, out.predicted, mask=out.blocks)
