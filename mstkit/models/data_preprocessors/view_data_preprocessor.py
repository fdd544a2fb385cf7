"""Photometric augmentation and normalization of views on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from mmpretrain.models.utils.data_preprocessor import SelfSupDataPreprocessor
from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.models.data_preprocessors import batch_photometric
from mstkit.registry import MODELS
from mstkit.utils.checks import check_list, check_number
from mstkit.utils.device_copies import copied_to
from mstkit.utils.view_parameters import BLUR, FACTORS, FLIP, GRAY, NO_SOLARIZATION, ORDER, SOLARIZE

_JITTER = (
    batch_photometric.adjust_brightness,
    batch_photometric.adjust_contrast,
    batch_photometric.adjust_saturation,
    batch_photometric.adjust_hue,
)


@MODELS.register_module()
class ViewDataPreprocessor(SelfSupDataPreprocessor):
    """mmpretrain's ``SelfSupDataPreprocessor`` with photometric augmentation on the device.

    A batch with ``photometric``, the :class:`ViewParameters` that ``MultiCrop`` drew in the workers, is flipped, color
    jittered, made gray, blurred and solarized accordingly, in float, then normalized. A batch without it (already
    augmented, or of an evaluation) is only normalized. The parameters stay on the host, where they select the images of
    each operation, so that the host never waits for the device.

    Args:
        mean, std: of the channels, on the scale 0..255; both or neither.
        non_blocking: copy to the device asynchronously; needs ``pin_memory`` in the data loader.
        **kwargs: as mmpretrain's.

    Raises:
        UsageError: mean or std that are no numbers, only one of the two, a std that is not positive, or a conversion of
            the channels in both directions.
    """

    def __init__(
        self,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> None:
        if (mean is None) != (std is None):
            raise UsageError(f'ViewDataPreprocessor: mean is {mean!r} and std is {std!r}: give both, or neither.')
        for name, values, least in (('mean', mean, -1e6), ('std', std, 1e-6)):
            if values is not None:
                check_list(f'ViewDataPreprocessor.{name}', values, check_number, least, 1e6)
                if len(values) not in (1, 3):
                    raise UsageError(f'ViewDataPreprocessor.{name} is {values!r}: give 3 numbers, or 1 for gray.')
        if kwargs.get('bgr_to_rgb') and kwargs.get('rgb_to_bgr'):
            raise UsageError('ViewDataPreprocessor: bgr_to_rgb and rgb_to_bgr are both True: give one of them.')
        super().__init__(mean=mean, std=std, non_blocking=non_blocking, **kwargs)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Moves a batch to the device, augments and normalizes it.

        Args:
            data: ``inputs``, a list of V uint8 views (B, 3, H, W) or one such tensor; ``data_samples``; for
                augmentation on the device also ``photometric``, (B, V, 12), on the CPU.
            training: not used.

        Returns:
            ``inputs``, a list or tensor as before, float32; ``data_samples``.
        """
        rows = data.get('photometric')
        if rows is None:
            return super().forward({name: part for name, part in data.items() if name != 'photometric'}, training)
        views, samples = self.cast_data([data['inputs'], data['data_samples']])
        single = isinstance(views, Tensor)
        table = rows.detach().cpu().numpy()
        made: list[Tensor] = []
        numbered = enumerate([views] if single else views)
        # Consecutive views of one size are processed as one batch, since small operations do not fill the device.
        for _, group in groupby(numbered, key=lambda pair: pair[1].shape):
            numbers, same = zip(*group, strict=True)
            images = torch.cat(same)
            if self._channel_conversion:
                images = images[:, [2, 1, 0]]
            images = color(images, table[:, numbers].swapaxes(0, 1).reshape(len(images), -1))
            if self._enable_normalize:
                images = images.sub_(self.mean).div_(self.std)
            made.extend(images.split(len(same[0])))
        return {'inputs': made[0] if single else made, 'data_samples': samples}


def normalization_of(preprocessor: nn.Module) -> tuple[Tensor, Tensor]:
    """Mean and std of the channels on the scale 0..255, (3,) or (1,) both; 0 and 1 if it does not normalize.

    Args:
        preprocessor: a data preprocessor of mmengine's, which has them as buffers.
    """
    buffers = dict(preprocessor.named_buffers(recurse=False))
    if 'mean' not in buffers or 'std' not in buffers:
        return torch.zeros(1), torch.ones(1)
    mean, std = buffers['mean'], buffers['std']
    return mean.detach().flatten().float().clone(), std.detach().flatten().float().clone()


@torch.no_grad()
def color(images: Tensor, rows: np.ndarray) -> Tensor:
    """Applies photometric augmentation to each image.

    Args:
        images: (N, 3, H, W) uint8 RGB.
        rows: (N, 12), parameters of each image, on the CPU.

    Returns:
        (N, 3, H, W) float32 in 0..255, a new tensor.
    """
    made = images.float()
    steps = list(_plan(rows))
    if not steps:
        return made
    # A single copy to the device for all indices, and one for all factors.
    indices = _to_device([step[1] for step in steps], images.device)
    numbers = _to_device([step[2].ravel() for step in steps], images.device)
    for (operation, _, values), some, flat in zip(steps, indices, numbers, strict=True):
        chosen = made[some]
        made.index_copy_(0, some, operation(chosen, flat.view(values.shape)) if values.size else operation(chosen))
    return made


def _plan(rows: np.ndarray) -> Iterator[tuple[Callable[..., Tensor], np.ndarray, np.ndarray]]:
    """Operations in order, each with the indices of its images, (n,), and their factors, (n, ...)."""
    nothing = rows[:, :0]
    steps: list[tuple[Callable[..., Tensor], np.ndarray, np.ndarray]] = [(_flip, rows[:, FLIP] > 0, nothing)]
    for parts in rows[:, ORDER].T:
        steps += [(operation, parts == part, rows[:, FACTORS][:, part]) for part, operation in enumerate(_JITTER)]
    steps.append((batch_photometric.to_gray, rows[:, GRAY] > 0, nothing))
    steps.append((batch_photometric.gaussian_blur, rows[:, BLUR] > 0, rows[:, BLUR]))
    steps.append((batch_photometric.solarize, rows[:, SOLARIZE] < NO_SOLARIZATION, rows[:, SOLARIZE]))
    for operation, meets, values in steps:
        (indices,) = np.nonzero(meets)
        if len(indices):
            values = values[indices]
            yield (
                operation,
                indices,
                batch_photometric.blur_steps(values) if operation is batch_photometric.gaussian_blur else values,
            )


def _flip(images: Tensor) -> Tensor:
    return images.flip(3)


def _to_device(parts: list[np.ndarray], device: torch.device) -> tuple[Tensor, ...]:
    """Copies flat arrays to the device, all in one transfer."""
    tensor = torch.from_numpy(np.concatenate(parts))
    return copied_to(tensor, device).split([len(part) for part in parts])
