"""mstkit: pre-training of vision transformers by hiding patches and by self-distillation, on OpenMMLab.

Importing the package registers its components, and makes mmpretrain's known, so that configs find both.
"""

from __future__ import annotations

import re
import sys

from .version import __version__

# `python -m mstkit.doctor` imports this file first and has to run where torch is missing or broken: for it, and for
# nothing else, the package stays empty. While Python looks for the module to run, sys.argv[0] is '-m'.
_AS_COMMAND = [word for word in sys.orig_argv if sys.argv[:1] == ['-m'] and re.fullmatch(r'(-\w*m)?mstkit\.\w+', word)]
_FOR_DOCTOR = any(word.endswith('mstkit.doctor') for word in _AS_COMMAND)

if not _FOR_DOCTOR:
    if _AS_COMMAND:
        import mstkit_waiting  # noqa: F401  (the other commands, as the programs do; importing mstkit sets nothing)

    from ._dependencies import load

    load()

    # mmdet and mmseg, whoever imports them, find mmcv's operators.
    from .interop.checkpoint import install_loader
    from .interop.mmcv_operators import install

    install()
    install_loader()

    from . import datasets, engine, evaluation, models, visualization
    from .models import (
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
        RandomMasker,
        RatioSchedule,
        SimpleFPN,
    )

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
    'RandomMasker',
    'RatioSchedule',
    'SimpleFPN',
    '__version__',
    'datasets',
    'engine',
    'evaluation',
    'models',
    'visualization',
]
