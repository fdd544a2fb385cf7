"""lightly's methods, trained for a budget of time, around timm's ViT of the size of our small recipes.

Heads, losses, transforms, optimizers and momenta are those of the examples of lightly 1.6, with crops of 64 and 32 px
in place of 224 and 96, and without the blur that is made for 224 px. Where an example has a number that a
small set cannot use (65,536 prototypes, a batch of 256), it is named at its place below.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lightly.loss import DINOLoss, IBOTPatchLoss, LeJEPALoss, NTXentLoss
from lightly.models import utils
from lightly.models.modules import (
    DINOProjectionHead,
    LeJEPAProjectionHead,
    MAEDecoderTIMM,
    MaskedVisionTransformerTIMM,
    SimCLRProjectionHead,
)
from lightly.transforms import DINOTransform, IBOTTransform, MAETransform, SimCLRTransform
from timm.models import VisionTransformer
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from contest.learner import Learner
from contest.lightly_parts import MeanOfPatches, ibot_forward, mae_forward
from contest.our_learner import EndlessShuffle
from contest.peer_step import DTYPES

SIZE, LOCAL, PATCH, WIDTH, DEPTH, HEADS = 64, 32, 8, 192, 6, 3
PROTOTYPES = 2048  # 65,536 in the example of DINO, 8,192 in that of iBOT: far more than a batch of 64 can use
NO_BLUR = dict(gaussian_blur=(0.0, 0.0, 0.0))
WARM_UP = 0.1  # of the budget


def small_vit() -> VisionTransformer:
    """timm's ViT with the sizes of configs/_base_/models/dino_vit-tiny.py."""
    return VisionTransformer(
        img_size=SIZE,
        patch_size=PATCH,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        num_classes=0,
        dynamic_img_size=True,
    )


class LightlyLearner(Learner):
    """Base class. A subclass builds its networks and says what the loss of a batch of views is.

    The learning rate rises over a tenth of the budget and falls in half a cosine, as ours does.

    Args:
        data_root: folder with ``train/CLASS``.
        seed: of the run.
        workers: of the loader.
        device: of the step.
        dtype: float32, bfloat16 or float16.
    """

    batch = 64
    rate, weight_decay = 1e-3, 0.04
    transform: Any
    trained: Sequence[nn.Module]

    def __init__(self, data_root: str, seed: int, workers: int, device: str, dtype: str) -> None:
        torch.manual_seed(seed)
        self.seed, self.workers, self.device, self.dtype = seed, workers, torch.device(device), DTYPES[dtype]
        self.student = self.backbone().to(self.device)
        self.build()
        parameters = [p for part in self.trained for p in part.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(parameters, lr=self.rate, weight_decay=self.weight_decay)
        self.images = ImageFolder(str(Path(data_root) / 'train'), transform=self.transform)
        self.share = 0.0

    def backbone(self) -> nn.Module:
        """The student's."""
        return small_vit()

    def build(self) -> None:
        """Builds heads, losses and the transform."""
        raise NotImplementedError

    def loss(self, views: list[Tensor]) -> Tensor:
        """Of the views of a batch."""
        raise NotImplementedError

    def before_step(self) -> None:
        """Called with gradients, before the optimizer's step."""

    def follow(self) -> None:
        """Moves the teacher, if there is one."""

    def batches(self) -> Iterator[list[Tensor]]:
        """See :meth:`Learner.batches`."""
        loader = DataLoader(
            self.images,
            self.batch,
            sampler=EndlessShuffle(len(self.images), self.seed),
            num_workers=self.workers,
            drop_last=True,
            persistent_workers=self.workers > 0,
        )
        for views, _ in loader:
            yield views if isinstance(views, list) else [views]

    def step(self, batch: list[Tensor], share: float) -> Tensor:
        """See :meth:`Learner.step`."""
        self.share = share
        rising, falling = share / WARM_UP, (share - WARM_UP) / (1 - WARM_UP)
        factor = rising if rising < 1 else 0.5 * (1 + math.cos(math.pi * falling))
        for group in self.optimizer.param_groups:
            group['lr'] = self.rate * factor
        self.follow()
        views = [view.to(self.device) for view in batch]
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32):
            loss = self.loss(views)
        self.optimizer.zero_grad()
        loss.backward()
        self.before_step()
        self.optimizer.step()
        return loss.detach()

    def networks(self) -> dict[str, nn.Module]:
        """See :meth:`Learner.networks`."""
        return dict(student=self.student)

    def momentum(self, start: float) -> float:
        """Half a cosine from ``start`` to 1."""
        return start + (1 - start) * 0.5 * (1 - math.cos(math.pi * self.share))


class LightlySimCLR(LightlyLearner):
    """SimCLR: temperature 0.1 and a batch of 128, since at the example's 0.5 it learned less (seen on other images)."""

    batch = 128

    def build(self) -> None:
        """See :meth:`LightlyLearner.build`."""
        self.head = SimCLRProjectionHead(WIDTH, 512, 128).to(self.device)
        self.criterion = NTXentLoss(temperature=0.1)
        self.transform = SimCLRTransform(input_size=SIZE, gaussian_blur=0.0)
        self.trained = self.student, self.head

    def loss(self, views: list[Tensor]) -> Tensor:
        """View by view, as in the example."""
        first, second = (self.head(self.student(view)).float() for view in views)
        return self.criterion(first, second)


class LightlyDINO(LightlyLearner):
    """DINO: two global and six local views, momentum from 0.996."""

    def build(self) -> None:
        """See :meth:`LightlyLearner.build`."""
        self.teacher = copy.deepcopy(self.student)
        self.head = DINOProjectionHead(WIDTH, 2048, 256, PROTOTYPES, freeze_last_layer=1).to(self.device)
        self.teacher_head = DINOProjectionHead(WIDTH, 2048, 256, PROTOTYPES).to(self.device)
        self.teacher_head.load_state_dict(self.head.state_dict())
        self.teacher.requires_grad_(False)
        self.teacher_head.requires_grad_(False)
        self.criterion = DINOLoss(output_dim=PROTOTYPES, warmup_teacher_temp_epochs=5).to(self.device)
        self.transform = DINOTransform(
            global_crop_size=SIZE, local_crop_size=LOCAL, n_local_views=6, global_crop_scale=(0.4, 1), **NO_BLUR
        )
        self.trained = self.student, self.head
        self.seen = 0

    @property
    def epoch(self) -> int:
        """Passes over the training images so far."""
        return self.seen // len(self.images)

    def follow(self) -> None:
        """See :meth:`LightlyLearner.follow`."""
        momentum = self.momentum(0.996)
        utils.update_momentum(self.student, self.teacher, m=momentum)
        utils.update_momentum(self.head, self.teacher_head, m=momentum)
        self.seen += self.batch

    def loss(self, views: list[Tensor]) -> Tensor:
        """View by view, as in the example."""
        with torch.no_grad():
            targets = [self.teacher_head(self.teacher(view)).float() for view in views[:2]]
        predicted = [self.head(self.student(view)).float() for view in views]
        return self.criterion(targets, predicted, epoch=self.epoch)

    def before_step(self) -> None:
        """The last layer rests in the first epoch."""
        self.head.cancel_last_layer_gradients(current_epoch=self.epoch)

    def networks(self) -> dict[str, nn.Module]:
        """Student and teacher."""
        return dict(student=self.student, teacher=self.teacher)


class LightlyIBOT(LightlyDINO):
    """iBOT: block masks on the global views, one head for class token and patches, momentum from 0.992."""

    def backbone(self) -> nn.Module:
        """lightly's around timm's."""
        return MaskedVisionTransformerTIMM(vit=small_vit(), antialias=False, pos_embed_initialization='skip')

    def build(self) -> None:
        """See :meth:`LightlyLearner.build`."""
        super().build()
        self.criterion = DINOLoss(output_dim=PROTOTYPES, teacher_temp=0.07).to(self.device)
        self.patches = IBOTPatchLoss(output_dim=PROTOTYPES, teacher_temp=0.07).to(self.device)
        self.transform = IBOTTransform(global_crop_size=SIZE, local_crop_size=LOCAL, n_local_views=6, **NO_BLUR)

    def momentum(self, start: float) -> float:
        """From 0.992, as in the example."""
        return super().momentum(0.992)

    def loss(self, views: list[Tensor]) -> Tensor:
        """See :func:`contest.lightly_parts.ibot_forward`."""
        out = ibot_forward(self.student, self.teacher, (self.head, self.teacher_head), views, PATCH)
        temperature = warmed_temperature(self.share)
        targets, logits = list(out.targets.float().chunk(2)), list(out.logits.float().chunk(len(views)))
        whole = self.criterion(targets, logits, teacher_temp=temperature)
        hidden, predicted = out.hidden.float(), out.predicted.float()
        return whole + self.patches(hidden, predicted, mask=out.blocks, teacher_temp=temperature)


def warmed_temperature(share: float) -> float:
    """The teacher's temperature: from 0.04 to 0.07 over 30 of 50 epochs in the example."""
    return 0.04 + 0.03 * min(1.0, share / 0.6)


class LightlyLeJEPA(LightlyLearner):
    """LeJEPA: lambda 0.05, AdamW at 5e-4, the network's own linear head of 512 outputs before the projection."""

    rate, weight_decay = 5e-4, 0.05

    def build(self) -> None:
        """See :meth:`LightlyLearner.build`."""
        self.head = nn.Sequential(nn.Linear(WIDTH, 512), LeJEPAProjectionHead(input_dim=512)).to(self.device)
        self.criterion = LeJEPALoss().to(self.device)
        self.transform = DINOTransform(
            global_crop_size=SIZE,
            local_crop_size=LOCAL,
            n_local_views=6,
            global_crop_scale=(0.3, 1),
            local_crop_scale=(0.05, 0.3),
            **NO_BLUR,
        )
        self.trained = self.student, self.head

    def loss(self, views: list[Tensor]) -> Tensor:
        """Global views together, local views together."""
        projected = [self.head(self.student(torch.cat(part))).float() for part in (views[:2], views[2:])]
        glob, local = (part.unflatten(0, (-1, self.batch)) for part in projected)
        return self.criterion(local_proj=local, global_proj=glob)


class LightlyMAE(LightlyLearner):
    """MAE: 75 % hidden, pixels; AdamW at 1.5e-4 and a batch of 256 as in the example, with our recipe's decoder."""

    batch = 256
    rate, weight_decay = 1.5e-4, 0.01
    ratio = 0.75

    def backbone(self) -> nn.Module:
        """lightly's around timm's."""
        return MaskedVisionTransformerTIMM(vit=small_vit())

    def build(self) -> None:
        """See :meth:`LightlyLearner.build`."""
        width = 96
        self.decoder = MAEDecoderTIMM(
            num_patches=(SIZE // PATCH) ** 2,
            patch_size=PATCH,
            embed_dim=WIDTH,
            decoder_embed_dim=width,
            decoder_depth=2,
            decoder_num_heads=3,
            mask_token=nn.Parameter(torch.zeros(1, 1, width)),
        ).to(self.device)
        self.transform = MAETransform(input_size=SIZE)
        self.trained = self.student, self.decoder

    def networks(self) -> dict[str, nn.Module]:
        """By the class token, and by the mean of the patches, as ours is judged."""
        return dict(student=self.student, patches=MeanOfPatches(self.student))

    def loss(self, views: list[Tensor]) -> Tensor:
        """Of hidden patches; see :func:`contest.lightly_parts.mae_forward`."""
        predicted, pixels = mae_forward(self.student, self.decoder, views[0], self.ratio, PATCH)
        return nn.functional.mse_loss(predicted, pixels)


PEERS = dict(dino=LightlyDINO, simclr=LightlySimCLR, ibot=LightlyIBOT, mae=LightlyMAE, lejepa=LightlyLeJEPA)
