"""A network that finds the keypoints of one instance in a crop around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement, InstanceData
from torch import Tensor

from mstkit.downstream.heatmaps import read_points, resized_points
from mstkit.errors import UsageError
from mstkit.registry import MODELS
from mstkit.utils.checks import check_flag

_COUNTED = 0.2  # keypoints with a lower score do not count in that of the instance, as in SimpleBaseline's code


@MODELS.register_module()
class KeypointEstimator(BaseModel):
    """Top-down estimation of keypoints: a backbone and a head that gives a heatmap for each keypoint.

    Source: SimpleBaseline, arXiv 1804.06208; with a ViT: ViTPose, arXiv 2204.12484.

    Args:
        backbone: config of a network that gives a tuple of feature maps (B, C, h, w).
        head: config of a :class:`mstkit.downstream.heatmap_head.HeatmapHead`.
        neck: config of what lies between the two, if anything.
        flip_test: predict each crop and its mirror image, and take the mean of the heatmaps.
        data_preprocessor: config, such as mmengine's ``ImgDataPreprocessor``.
        init_cfg: as in mmengine.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        head: Mapping[str, Any],
        neck: Mapping[str, Any] | None = None,
        flip_test: bool = True,
        data_preprocessor: Mapping[str, Any] | None = None,
        init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(None if data_preprocessor is None else dict(data_preprocessor), init_cfg)
        self.flip_test = check_flag('KeypointEstimator.flip_test', flip_test)
        self.backbone = MODELS.build(backbone)
        self.neck = None if neck is None else MODELS.build(neck)
        self.head = MODELS.build(head)

    def features(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of normalized images (B, 3, H, W), behind the neck."""
        features = self.backbone(inputs)
        return features if self.neck is None else self.neck(features)

    def forward(
        self,
        inputs: Tensor,
        data_samples: list[BaseDataElement] | None = None,
        mode: Literal['tensor', 'loss', 'predict'] = 'tensor',
    ) -> Any:
        """As in mmengine.

        Args:
            inputs: (B, 3, H, W), normalized.
            data_samples: B samples of :class:`mstkit.downstream.keypoint_transforms.PackKeypoints`; not needed for
                ``'tensor'``.
            mode: ``'loss'`` for a dict of losses, ``'predict'`` for the samples with ``pred_instances``, ``'tensor'``
                for the heatmaps (B, K, h, w).

        Raises:
            UsageError: losses or predictions are asked for without samples.
        """
        if mode == 'tensor':
            return self.head(self.features(inputs))
        if not data_samples:
            raise UsageError(f'KeypointEstimator: mode={mode!r} needs data_samples.')
        if mode == 'loss':
            return self.head.loss(self.features(inputs), data_samples)
        return self._predict(inputs, data_samples)

    def get_layer_depth(self, param_name: str) -> tuple[int, int]:
        """The depth of a parameter's layer and the number of layers, for layer-wise decay of the learning rate."""
        return self.backbone.get_layer_depth(param_name, 'backbone.')

    @torch.no_grad()  # no gradient goes through the highest pixel
    def _predict(self, inputs: Tensor, samples: list[BaseDataElement]) -> list[BaseDataElement]:
        heatmaps = self.head(self.features(inputs)).float()
        if self.flip_test:
            mirrored = self.head(self.features(inputs.flip(-1))).float().flip(-1)
            # Left and right keypoints change places in a mirror image.
            places = torch.tensor(samples[0].flip_indices, device=heatmaps.device)
            heatmaps = (heatmaps + mirrored[:, places]) / 2
        points, scores = read_points(heatmaps)
        points = resized_points(points, heatmaps.shape[-2:], inputs.shape[-2:])
        for sample, found, certain in zip(samples, points.cpu().double().numpy(), scores, strict=True):
            counted = certain > _COUNTED
            sample.pred_instances = InstanceData(
                keypoints=torch.from_numpy(_in_image(found, sample.crop_matrix)).float()[None].to(inputs.device),
                keypoint_scores=certain[None],
                scores=(certain * counted).sum()[None] / counted.sum().clamp(min=1),
                bboxes=sample.gt_instances.bboxes,
                labels=sample.gt_instances.labels,
            )
        return samples


def _in_image(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points (K, 2) of a crop in pixels of the image; ``matrix``, (2, 3), is the map from the image to the crop."""
    return np.linalg.solve(matrix[:, :2], (points - matrix[:, 2]).T).T
