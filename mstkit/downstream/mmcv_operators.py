"""Replaces mmcv's compiled operators that Mask R-CNN and SETR need by torchvision's.

mmdet and mmseg import ``mmcv.ops``, which imports the extension ``mmcv._ext`` and fails if mmcv was installed without
a compiler. :func:`install` provides a module of that name. mmcv's Python code around the extension is used unchanged
(score thresholds, classes, ``max_num``, autograd).
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

import torch
from torch import Tensor
from torchvision import ops

EXTENSION = 'mmcv._ext'
_OWN_DTYPES = (torch.float32, torch.float64)


class OperatorMissing(NotImplementedError):
    """An operator of mmcv was called that is neither compiled nor replaced here."""


def install() -> bool:
    """Makes ``mmcv.ops`` importable; does nothing if mmcv has its compiled extension.

    Returns:
        Whether torchvision's operators are used.
    """
    if EXTENSION not in sys.modules and importlib.util.find_spec(EXTENSION) is None:
        sys.modules[EXTENSION] = _Extension()
    return isinstance(sys.modules.get(EXTENSION), _Extension)


class _Extension(ModuleType):
    """Replacement of ``mmcv._ext``; operators that are not implemented here raise an error when they are called."""

    def __init__(self) -> None:
        super().__init__(EXTENSION, 'Stands in for the compiled operators of mmcv (mstkit.downstream.mmcv_operators).')
        # Without a loader, pkgutil.find_loader finds nothing, by which mmcv checks whether it was compiled.
        self.__spec__ = ModuleSpec(EXTENSION, loader=None)
        self.nms = nms
        self.roi_align_forward = roi_align_forward
        self.roi_align_backward = roi_align_backward
        self.get_compiler_version = self.get_compiling_cuda_version = lambda: 'not compiled'

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):  # attributes that Python looks up in modules
            raise AttributeError(name)

        def missing(*args: Any, **kwargs: Any) -> NoReturn:
            raise OperatorMissing(_no_operator(name))

        missing.__name__ = name
        return missing


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Non-maximum suppression, highest score first.

    Args:
        boxes: (M, 4), x1, y1, x2, y2.
        scores: (M,).
        iou_threshold: a box is removed if its IoU with a better one is higher.
        offset: 0 or 1, added to width and height.

    Returns:
        int64 indices of the kept boxes.
    """
    boxes, scores = _in_full_precision(boxes), _in_full_precision(scores)
    if offset:  # shifting one corner enlarges width and height of boxes and intersections
        boxes = torch.cat((boxes[:, :2], boxes[:, 2:] + offset), dim=1)
    # Rounded to the dtype of the boxes, as in mmcv: otherwise an IoU of 0.3 in float32 is above the threshold 0.3.
    threshold = torch.tensor(iou_threshold, dtype=boxes.dtype).item()
    return ops.nms(boxes, scores.to(boxes.dtype), threshold)


def roi_align_forward(
    features: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Writes the average-pooled regions into ``output``.

    Args:
        features: (B, C, H, W).
        rois: (M, 5), index of the image and x1, y1, x2, y2.
        output: (M, C, aligned_height, aligned_width), filled.
        argmax_y: not used, for max pooling only.
        argmax_x: likewise.
        aligned_height: rows of the output.
        aligned_width: columns of the output.
        spatial_scale: features per pixel.
        sampling_ratio: samples per bin and axis; 0 chooses by the size of the region.
        pool_mode: 1 for average.
        aligned: whether pixel centers are at half-integer coordinates.

    Raises:
        OperatorMissing: ``pool_mode`` 0, maximum.
    """
    if pool_mode != 1:
        raise OperatorMissing(_no_operator("roi_align with pool_mode='max'"))
    pooled = torch.ops.torchvision.roi_align(
        _in_full_precision(features),
        rois.to(_full(features.dtype)),
        spatial_scale,
        aligned_height,
        aligned_width,
        sampling_ratio,
        aligned,
    )
    output.copy_(pooled)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Writes the gradient of :func:`roi_align_forward` into ``grad_input`` (B, C, H, W); arguments as there."""
    gradient = torch.ops.torchvision._roi_align_backward(
        _in_full_precision(grad_output),
        rois.to(_full(grad_output.dtype)),
        spatial_scale,
        aligned_height,
        aligned_width,
        *grad_input.shape,
        sampling_ratio,
        aligned,
    )
    grad_input.copy_(gradient)


def _full(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype in _OWN_DTYPES else torch.float32


def _in_full_precision(tensor: Tensor) -> Tensor:
    """Converts fp16 and bf16 to float32: not every kernel supports these, and sums of many samples lose precision."""
    return tensor.to(_full(tensor.dtype))


def _no_operator(name: str) -> str:
    # --no-cache-dir: otherwise pip reuses the package that it built without operators, in spite of --no-binary.
    return (
        f'mmcv was installed without compiled operators, and {name} is not among those that work without: nms, '
        'batched_nms and RoIAlign (average). For the others mmcv has to be built with a compiler and, for GPUs, the '
        'CUDA toolkit: pip install --no-build-isolation --no-cache-dir --no-binary onedl-mmcv --force-reinstall '
        '--no-deps onedl-mmcv (for torch 2.13 and newer see also docs/en/get_started.md).'
    )
