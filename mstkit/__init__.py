"""mstkit: pre-training of vision transformers by hiding patches and by self-distillation, on OpenMMLab.

Importing the package registers its components, and makes mmpretrain's known, so that configs find both.
"""

from __future__ import annotations

import sys

from .version import __version__

# `python -m mstkit.doctor` imports this file first and has to run where torch is missing or broken: for it, and for
# nothing else, the package stays empty. While Python looks for the module to run, sys.argv[0] is '-m'.
_FOR_DOCTOR = sys.argv[:1] == ['-m'] and any(word.endswith('mstkit.doctor') for word in sys.orig_argv)

if not _FOR_DOCTOR:
    from ._dependencies import load

    load()

    from . import datasets, engine, evaluation, models, visualization
    from .models import (
        AttentionGuidedMasker,
        CNNImageDecoder,
        DINOHead,
        DINONeck,
        MaskedSwinTransformer,
        MaskedVisionTransformer,
        MomentumTeacher,
        MSTAlgorithm,
        RandomMasker,
    )

__all__ = [
    'AttentionGuidedMasker',
    'CNNImageDecoder',
    'DINOHead',
    'DINONeck',
    'MSTAlgorithm',
    'MaskedSwinTransformer',
    'MaskedVisionTransformer',
    'MomentumTeacher',
    'RandomMasker',
    '__version__',
    'datasets',
    'engine',
    'evaluation',
    'models',
    'visualization',
]
