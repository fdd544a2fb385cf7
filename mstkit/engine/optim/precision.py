"""The precision of the forward pass on a device."""

from __future__ import annotations

import torch

from mstkit.errors import UsageError
from mstkit.utils.private_attributes import multiplies_bf16

PRECISIONS = ('auto', 'bf16', 'fp16', 'fp32')


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bf16 in hardware; emulated, it is slower than float32."""
    return multiplies_bf16()


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
    if precision == 'auto' and device.type == 'cpu':
        return torch.bfloat16 if cpu_has_bf16() else None
    if precision == 'auto' and device.type != 'cuda':
        return None
    if precision == 'auto':
        # is_bf16_supported() also says yes where bf16 is only emulated, which is slower than float32.
        native = torch.version.hip is not None or torch.cuda.get_device_capability(device)[0] >= 8
        return torch.bfloat16 if native else torch.float16
    if precision == 'fp16' and device.type != 'cuda':
        raise UsageError(
            f"optim_wrapper.precision='fp16' needs a CUDA device, but the model is on {device.type}: "
            "use 'auto', 'bf16' or 'fp32'."
        )
    return torch.bfloat16 if precision == 'bf16' else torch.float16
