"""A head that predicts a heatmap for each keypoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.nn import functional as F

from mstkit.downstream.heatmaps import draw_heatmaps, resized_points
from mstkit.registry import MODELS
from mstkit.utils.checks import check_count, check_number, check_size

_CHANNELS, _KERNEL, _STRIDE = 256, 4, 2
# SimpleBaseline's own initialization.
_INIT = (
    dict(type='Normal', layer=['Conv2d', 'ConvTranspose2d'], std=0.001),
    dict(type='Constant', layer='BatchNorm2d', val=1.0),
)


@MODELS.register_module()
class HeatmapHead(BaseModule):
    """SimpleBaseline's head (arXiv 1804.06208): transposed convolutions, each with twice the resolution, and a 1x1 one.

    Heatmaps are usually a quarter of the input's size: two transposed convolutions behind a ViT with patches of 16 px,
    as in ViTPose (arXiv 2204.12484), one with 8 px, three behind Swin's last stage. With none of them it is linear in
    the features, and ``upsampling`` enlarges its heatmaps.

    The loss is the squared error of the heatmaps, the mean over pixels and over keypoints that are annotated and lie
    within the crop.

    Args:
        in_channels: C of the features.
        num_keypoints: K; tools/train.py sets it to that of the training data.
        deconvolutions: number of transposed convolutions (4x4, stride 2, batch normalization, ReLU).
        channels: of the transposed convolutions.
        upsampling: the heatmaps are enlarged by this factor, bilinearly.
        sigma: of the Gaussians that are to be predicted, in pixels of the heatmap.
        init_cfg: as in mmengine; by default as in SimpleBaseline's code.

    Raises:
        UsageError: a size or a number that cannot be.
    """

    def __init__(
        self,
        in_channels: int,
        num_keypoints: int,
        deconvolutions: int = 2,
        channels: int = _CHANNELS,
        upsampling: int = 1,
        sigma: float = 2.0,
        init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__([dict(one) for one in _INIT] if init_cfg is None else init_cfg)
        check_size('HeatmapHead.in_channels', in_channels)
        self.num_keypoints = check_size('HeatmapHead.num_keypoints', num_keypoints)
        check_count('HeatmapHead.deconvolutions', deconvolutions, 0, 6)
        check_size('HeatmapHead.channels', channels)
        self.upsampling = check_count('HeatmapHead.upsampling', upsampling, 1, 64)
        self.sigma = check_number('HeatmapHead.sigma', sigma, 1e-3, 1e3)
        layers: list[nn.Module] = []
        for _ in range(deconvolutions):
            layers += [
                nn.ConvTranspose2d(in_channels, channels, _KERNEL, _STRIDE, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
            ]
            in_channels = channels
        self.deconvolutions = nn.Sequential(*layers)
        self.final = nn.Conv2d(in_channels, num_keypoints, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Heatmaps (B, K, h, w) of feature maps, of which the last, (B, C, ...), is used."""
        heatmaps = self.final(self.deconvolutions(features[-1]))
        if self.upsampling == 1:
            return heatmaps
        return F.interpolate(heatmaps, scale_factor=self.upsampling, mode='bilinear', align_corners=False)

    def loss(self, features: Sequence[Tensor], samples: Sequence[BaseDataElement]) -> dict[str, Tensor]:
        """The loss.

        Args:
            features: as of :meth:`forward`.
            samples: B samples of :class:`mstkit.downstream.keypoint_transforms.PackKeypoints`.

        Returns:
            ``loss_heatmap``, a scalar.
        """
        heatmaps = self(features).float()
        keypoints = _crop_keypoints(samples).to(heatmaps.device)
        size = heatmaps.shape[-2:]
        points = resized_points(keypoints[..., :2], samples[0].img_shape, size)
        weights = keypoints[..., 2, None, None]
        error = (heatmaps - draw_heatmaps(points, size, self.sigma)) ** 2 * weights
        counted = weights.sum().clamp(min=1) * size[0] * size[1]
        return dict(loss_heatmap=error.sum() / counted)


def _crop_keypoints(samples: Sequence[BaseDataElement]) -> Tensor:
    """(B, K, 3): x, y in pixels of the crops, and 1 for keypoints that are to be learned, else 0."""
    return torch.cat([sample.gt_instances.crop_keypoints for sample in samples])
