"""A simple head that turns the last feature map of a backbone into depth, and its loss."""

from __future__ import annotations

from typing import Any

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.decode_heads.vpd_depth_head import VPDDepthDecoder
from torch import Tensor, nn
from torch.nn import functional

from mstkit.evaluation.protocols.depth_probe import scale_invariant
from mstkit.registry import MODELS
from mstkit.utils.checks import check_count, check_number


@MODELS.register_module()
class ScaleInvariantLoss(nn.Module):
    """The scale-invariant loss of Eigen et al. (arXiv 1406.2283) over the known pixels of a batch.

    mmseg's ``SiLogLoss`` takes one of each image, and where an image or a crop has no known pixel its gradient is NaN.

    Args:
        loss_weight: factor.
        loss_name: in the log.
    """

    def __init__(self, loss_weight: float = 1.0, loss_name: str = 'loss_depth') -> None:
        super().__init__()
        self.loss_weight = check_number('ScaleInvariantLoss.loss_weight', loss_weight, 0.0, 1e6)
        self.loss_name = loss_name  # mmseg's heads ask for it

    def forward(self, depth: Tensor, known: Tensor) -> Tensor:
        """The loss, a scalar.

        Args:
            depth: predicted, any shape, above 0.
            known: of the same shape, 0 where it is unknown.
        """
        return self.loss_weight * scale_invariant(depth.float(), known.float())


@MODELS.register_module()
class DeconvolutionDepthHead(BaseDecodeHead):
    """Deconvolutions on the last feature map, then a sigmoid times the farthest depth.

    The head with which "Revealing the Dark Secrets of Masked Image Modeling" (arXiv 2205.13543) fine-tunes for depth:
    deconvolutions of stride 2, a 3x3 convolution, a bilinear enlargement by 4, and two 3x3 convolutions. Theirs has
    three deconvolutions for Swin's stride of 32; so that the result is as large as the image, a ViT takes two for
    patches of 16 px and one for 8 px.

    Args:
        in_channels: of the feature map.
        channels: of the convolutions before the last.
        farthest: the largest depth, in meters.
        deconvolutions: how many.
        filters: of each deconvolution.
        in_index: of the feature map among the backbone's.
        loss_decode: the loss.
        **kwargs: as in mmseg: ``align_corners``, ``init_cfg``, ``dropout_ratio``.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        farthest: float = 10.0,
        deconvolutions: int = 2,
        filters: int = 32,
        in_index: int = -1,
        loss_decode: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        check_count('DeconvolutionDepthHead.deconvolutions', deconvolutions, 1, 5)
        check_count('DeconvolutionDepthHead.filters', filters, 1)
        self.farthest = check_number('DeconvolutionDepthHead.farthest', farthest, 1e-6, 1e9)
        super().__init__(
            in_channels=in_channels,
            channels=channels,
            in_index=in_index,
            num_classes=1,
            out_channels=1,
            threshold=0.5,  # of mmseg's for one class; depth has none
            loss_decode=loss_decode or dict(type='mstkit.ScaleInvariantLoss'),
            **{'dropout_ratio': 0.0, 'align_corners': False, **kwargs},
        )
        self.decoder = VPDDepthDecoder(in_channels, channels, deconvolutions, [filters] * deconvolutions)
        self.before_depth = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU())
        self.conv_seg = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Depth in meters, (B, 1, H, W) float32.

        Args:
            inputs: feature maps, (B, C, h, w) each.
        """
        features = self.before_depth(self.decoder(inputs[self.in_index]))
        # In float32: under mixed precision a sigmoid has only 8 bits, and near depths are a small part of the farthest.
        depth = torch.sigmoid(self.cls_seg(features).float()) * self.farthest
        return depth.clamp_min(self.farthest / 1000)

    def loss_by_feat(self, seg_logits: Tensor, batch_data_samples: list[Any]) -> dict[str, Tensor]:
        """The loss by its name.

        Args:
            seg_logits: (B, 1, h, w), depth.
            batch_data_samples: with ``gt_depth_map``, (1, H, W), 0 where it is unknown.
        """
        known = torch.stack([sample.gt_depth_map.data for sample in batch_data_samples])
        depth = functional.interpolate(seg_logits, known.shape[2:], mode='bilinear', align_corners=self.align_corners)
        return {self.loss_decode.loss_name: self.loss_decode(depth, known)}
