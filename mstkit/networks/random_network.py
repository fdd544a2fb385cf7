"""Random weights of a network, the same ones in every run."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseModule

from mstkit.models.backbones import MaskedBackbone
from mstkit.utils.undisturbed import undisturbed_randomness

SEED = 0


@contextlib.contextmanager
def seeded_quietly(seed: int = SEED) -> Iterator[None]:
    """Random draws inside have this seed; the global generators are not changed, and initializations are not logged."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('WARNING')  # mmengine logs every initialized tensor at INFO
    try:
        with undisturbed_randomness():
            torch.manual_seed(seed)
            yield
    finally:
        logger.setLevel(level)


def random_copy(backbone: MaskedBackbone) -> Any:
    """A copy of a backbone with random weights of seed 0, whatever the weights of the backbone are.

    It is initialized as for training; weights that an ``init_cfg`` of the backbone names are not loaded.
    """
    made: Any = copy.deepcopy(backbone)
    if isinstance(made.init_cfg, dict) and made.init_cfg.get('type') == 'Pretrained':
        made.init_cfg = None
    with seeded_quietly():
        # First what the constructors drew, which init_weights leaves in part (biases of the patch projection).
        for module in made.modules():
            if callable(getattr(module, 'reset_parameters', None)):  # a convention of torch's, without a base class
                module.reset_parameters()
            if isinstance(module, BaseModule):
                module.is_init = False  # or mmengine leaves it as it is
        made.init_weights()
    return made
