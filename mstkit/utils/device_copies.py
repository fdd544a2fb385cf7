"""Copies from the host to a device for which the host does not wait."""

from __future__ import annotations

import torch
from torch import Tensor


def copied_to(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device.

    A copy from pinned memory to a GPU goes into the queue of the device; any other makes the host wait until all that
    is in the queue is done.
    """
    if device.type == 'cuda':
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
