"""In which precision a device multiplies, and does so now."""

from __future__ import annotations

import torch

from mstkit.utils.private_attributes import multiplies_bf16


def has_bf16(device: torch.device) -> bool:
    """Whether a device multiplies bf16 in hardware; emulated, it is slower than float32.

    CUDA devices do from Ampere on, AMD's do, and CPUs with AVX-512 BF16 or AMX.
    """
    if device.type == 'cuda':
        # is_bf16_supported() also says yes where it is only emulated.
        return torch.version.hip is not None or torch.cuda.get_device_capability(device)[0] >= 8
    return device.type == 'cpu' and multiplies_bf16()


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """The type that autocast casts to on a device here and now; None where it does nothing."""
    kind = device.type
    enabled = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if enabled else None
