"""Cuts instances with keypoints out of their images, and packs them for a network.

Coordinates are in pixels, in which the left upper corner of an image is (0, 0).
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import BaseDataElement, InstanceData

from mstkit.datasets.sampling import SampleKey
from mstkit.errors import UsageError
from mstkit.registry import TRANSFORMS
from mstkit.utils.checks import check_list, check_number, check_probability, check_size


@TRANSFORMS.register_module()
class CropInstance(BaseTransform):
    """Cuts the surroundings of an instance's box out of the image, turned, scaled and mirrored by one affine map.

    The box is extended to the shape of the crop, and then by ``padding``. What lies beyond the image is black. All
    random numbers are seeded by the key in ``sample_idx`` (:class:`mstkit.datasets.sampling.SampleKey`), so that with
    ``EpochSampler`` a resumed run repeats them. Source: SimpleBaseline, arXiv 1804.06208, section 3, and its code.

    Args:
        size: height and width of the crop in pixels; 256 and 192 in the paper.
        padding: side of the region relative to that of the box.
        scale: spread of a factor of the region's side: 1 + ``scale`` n with a normal n, at most ``scale`` away from 1.
        rotation: spread of an angle in degrees, likewise, at most twice as much.
        rotation_prob: probability of a rotation.
        flip_prob: probability of a mirrored crop; left and right keypoints change places.

    Raises:
        UsageError: a value that cannot be; or, in use, nothing random can be drawn because ``sample_idx`` is missing.
    """

    def __init__(
        self,
        size: tuple[int, int] = (256, 192),
        padding: float = 1.25,
        scale: float = 0.0,
        rotation: float = 0.0,
        rotation_prob: float = 0.6,
        flip_prob: float = 0.0,
    ) -> None:
        self.size = check_list('CropInstance.size', size, check_size)
        self.padding = check_number('CropInstance.padding', padding, 0.1, 100)
        self.scale = check_number('CropInstance.scale', scale, 0, below=1)
        self.rotation = check_number('CropInstance.rotation', rotation, 0, 180)
        self.rotation_prob = check_probability('CropInstance.rotation_prob', rotation_prob)
        self.flip_prob = check_probability('CropInstance.flip_prob', flip_prob)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Replaces ``img``, (H, W, 3), by the crop.

        Needs ``box`` (x, y, width, height), ``keypoints`` (K, 3) and ``flip_indices`` (K,) of the data set. Adds
        ``crop_matrix``, (2, 3), which maps points of the image to those of the crop, and ``crop_keypoints``, (K, 3):
        x and y in pixels of the crop, and 1 for keypoints that are annotated and lie in it, else 0.
        """
        factor, angle, flip = self._draw(results)
        matrix = self._matrix(np.asarray(results['box'], np.float64), factor, angle, flip)
        height, width = self.size
        keypoints = np.asarray(results['keypoints'], np.float64)
        if flip:
            keypoints = keypoints[np.asarray(results['flip_indices'])]
        points = keypoints[:, :2] @ matrix[:, :2].T + matrix[:, 2]
        inside = ((points >= 0) & (points < (width, height))).all(1)
        learned = inside & (keypoints[:, 2] > 0)
        results['img'] = cv2.warpAffine(results['img'], _of_centers(matrix), (width, height), flags=cv2.INTER_LINEAR)
        results['img_shape'] = (height, width)
        results['crop_matrix'] = matrix
        results['crop_keypoints'] = np.concatenate([points, learned[:, None]], 1).astype(np.float32)
        return results

    def _draw(self, results: dict[str, Any]) -> tuple[float, float, bool]:
        """The factor of the region's side, the angle in degrees, and whether to mirror."""
        if not (self.scale or self.rotation or self.flip_prob):
            return 1.0, 0.0, False
        if 'sample_idx' not in results:
            raise UsageError("CropInstance needs 'sample_idx' to seed its draws: use a data set based on mmengine's.")
        generator = SampleKey.of(results['sample_idx']).generator('instance')
        factor = 1 + float(np.clip(generator.normal(), -1, 1)) * self.scale
        angle = float(np.clip(generator.normal(), -2, 2)) * self.rotation
        turned, flip = generator.random() < self.rotation_prob, generator.random() < self.flip_prob
        return factor, angle if turned else 0.0, bool(flip)

    def _matrix(self, box: np.ndarray, factor: float, angle: float, flip: bool) -> np.ndarray:
        """(2, 3): the map from the image to the crop."""
        height, width = self.size
        side = max(box[2] / width, box[3] / height) * self.padding * factor  # px of the image per px of the crop
        turn = math.radians(angle)
        rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]) / side
        center = box[:2] + box[2:] / 2
        matrix = np.concatenate([rotation, (np.array([width, height]) / 2 - rotation @ center)[:, None]], axis=1)
        if flip:
            matrix[0] *= -1
            matrix[0, 2] += width
        return matrix

    def __repr__(self) -> str:
        names = ('size', 'padding', 'scale', 'rotation', 'rotation_prob', 'flip_prob')
        return f'{type(self).__name__}({", ".join(f"{name}={getattr(self, name)}" for name in names)})'


def _of_centers(matrix: np.ndarray) -> np.ndarray:
    """The same map for OpenCV, in whose coordinates the center of the first pixel, and not its corner, is (0, 0)."""
    moved = matrix.copy()
    moved[:, 2] += matrix[:, :2].sum(1) / 2 - 0.5
    return moved


@TRANSFORMS.register_module()
class PackKeypoints(BaseTransform):
    """Packs a crop and what is known of its instance, as a model of keypoints and its metric take them."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Makes ``inputs``, a uint8 tensor (3, h, w), and ``data_samples``.

        The sample has ``gt_instances`` with one instance: ``keypoints`` (1, K, 2) and ``bboxes`` (1, 4; left, top,
        right, bottom) in pixels of the image, ``keypoints_visible`` (1, K), ``areas`` and ``labels`` (1,), and
        ``crop_keypoints`` (1, K, 3).
        """
        x, y, width, height = results['box']
        keypoints = torch.as_tensor(np.asarray(results['keypoints'], np.float32))
        truth = InstanceData(
            keypoints=keypoints[None, :, :2],
            keypoints_visible=keypoints[None, :, 2],
            bboxes=torch.tensor([[x, y, x + width, y + height]], dtype=torch.float32),
            areas=torch.tensor([results['area']], dtype=torch.float32),
            labels=torch.zeros(1, dtype=torch.int64),
            crop_keypoints=torch.from_numpy(results['crop_keypoints'])[None],
        )
        known = dict(
            img_path=results['img_path'],
            img_id=results['image_id'],
            instance_id=results['instance_id'],
            ori_shape=tuple(results['ori_shape']),
            img_shape=tuple(results['img_shape']),
            crop_matrix=results['crop_matrix'],
            flip_indices=results['flip_indices'],
        )
        sample = BaseDataElement(metainfo=known)
        sample.gt_instances = truth
        return dict(
            inputs=torch.from_numpy(np.ascontiguousarray(results['img'].transpose(2, 0, 1))), data_samples=sample
        )

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
