"""mstkit: pre-training of vision transformers by masked image modeling and self-distillation, on OpenMMLab.

``mstkit.load(FILE)`` opens a trained network. ``import mstkit`` imports only the standard library, so that ``python -m
mstkit.doctor`` works even if torch is broken. The names below are imported on first access. Names in a config do not
need that: :mod:`mstkit.registry` imports the subpackage of a component when it is looked up. Detection and segmentation
need ``import mstkit.downstream``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mstkit.version import __version__

if TYPE_CHECKING:  # for checkers and editors: at run time a name is imported when it is asked for
    from mstkit import datasets, engine, evaluation, models, visualization
    from mstkit.models import (
        DINO,
        IBOT,
        AttentionGuidedMasker,
        AttMaskHigh,
        AttMaskHint,
        AttMaskLow,
        BlockMasker,
        CNNImageDecoder,
        DINOHead,
        DINONeck,
        IBOTHead,
        MaskedSwinTransformer,
        MaskedVisionTransformer,
        MaskerSchedule,
        MoBY,
        MoBYHead,
        MomentumTeacher,
        MSTAlgorithm,
        MultinomialMasker,
        RandomMasker,
        RatioSchedule,
        SimpleFPN,
        TopShareMasker,
    )

_ROOMS = ('datasets', 'engine', 'evaluation', 'models', 'visualization')

__all__ = [
    'DINO',
    'IBOT',
    'AttMaskHigh',
    'AttMaskHint',
    'AttMaskLow',
    'AttentionGuidedMasker',
    'BlockMasker',
    'CNNImageDecoder',
    'DINOHead',
    'DINONeck',
    'IBOTHead',
    'MSTAlgorithm',
    'MaskedSwinTransformer',
    'MaskedVisionTransformer',
    'MaskerSchedule',
    'MoBY',
    'MoBYHead',
    'MomentumTeacher',
    'MultinomialMasker',
    'RandomMasker',
    'RatioSchedule',
    'SimpleFPN',
    'TopShareMasker',
    '__version__',
    'datasets',
    'engine',
    'evaluation',
    'load',
    'models',
    'visualization',
]


def __getattr__(name: str) -> Any:
    """Imports a subpackage, :func:`mstkit.networks.load` or a component of :mod:`mstkit.models`, on first access."""
    if name in _ROOMS:
        return importlib.import_module(f'mstkit.{name}')
    if name == 'load':
        return importlib.import_module('mstkit.networks').load
    if name in __all__:
        return getattr(importlib.import_module('mstkit.models'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
