"""The precision of the forward pass on a device."""

from __future__ import annotations

import torch

from mstkit.errors import UsageError
from mstkit.utils.device_precision import has_bf16

PRECISIONS = ('auto', 'bf16', 'fp16', 'fp32')


def resolve_precision(precision: str, device: torch.device) -> torch.dtype | None:
    """Chooses the autocast type for a device.

    Args:
        precision: one of :data:`PRECISIONS`. ``auto`` is bf16 on a device that has it in hardware (CUDA from Ampere on,
            CPUs with AVX-512 BF16 or AMX), fp16 on an older CUDA device, and no autocast anywhere else.
        device: the device of the parameters.

    Returns:
        The type to autocast to, or None for plain float32.

    Raises:
        UsageError: fp16 without a CUDA device (its loss scaler needs one).
    """
    if precision == 'fp32':
        return None
    if precision == 'auto' and has_bf16(device):
        return torch.bfloat16
    if precision == 'auto':
        return torch.float16 if device.type == 'cuda' else None
    if precision == 'fp16' and device.type != 'cuda':
        raise UsageError(
            f"optim_wrapper.precision='fp16' needs a CUDA device, but the model is on {device.type}: "
            "use 'auto', 'bf16' or 'fp32'."
        )
    return torch.bfloat16 if precision == 'bf16' else torch.float16


def precision_name(dtype: torch.dtype | None) -> str:
    """The name of an autocast type, one of :data:`PRECISIONS`; ``fp32`` for none."""
    return {torch.bfloat16: 'bf16', torch.float16: 'fp16'}.get(dtype, 'fp32')  # type: ignore[arg-type]
