"""``mstkit.load``: a trained network in one line."""

from __future__ import annotations

import os

import torch

from mstkit.networks.network import Network
from mstkit.networks.open_network import open_networks


def load(
    source: str | os.PathLike[str], branch: str | None = None, device: str | torch.device | None = None
) -> Network:
    """Opens one trained network, ready to compute features.

    Args:
        source: a checkpoint, ``timm:NAME[@WEIGHTS]`` or ``mmpretrain:NAME[@WEIGHTS]``; see
            :func:`mstkit.networks.open_networks`.
        branch: ``'student'`` or ``'teacher'`` of a checkpoint; None for the teacher, if it has one.
        device: of the network; None for the GPU, if there is one.

    Raises:
        UsageError: it cannot be opened, or has no such branch.
    """
    if device is None:
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    networks = open_networks(os.fspath(source), branch, device)
    return next((network for network in networks if network.branch == 'teacher'), networks[0])
