"""Imports the packages that mstkit is built on, without irrelevant notices and with a clear message on failure.

mmpretrain's registries contain its components only after ``mmpretrain.models`` and ``mmpretrain.datasets`` have been
imported. ``import mstkit`` does not do that; :mod:`mstkit.registry` does, which every subpackage that uses mmpretrain
imports first. Exactly the following notices, which are irrelevant for pre-training, are suppressed:

* mmcv without compiled operators warns that ``MultiScaleDeformableAttention`` is missing;
* mmpretrain, mmdet and mmseg print "Could not import OneDL", a commercial data store;
* mmdet warns that an optional, faster evaluation is not installed.

While mmpretrain is imported, and no longer, it does not find mmdet, unless the program has imported mmdet's models
before. This is the one place that changes ``sys.modules``, and it cannot be avoided (tried with mmpretrain 1.3.6, mmdet
3.5.1, mmcv 2.3.6): ``mmpretrain/models/utils/res_layer_extra_norm.py`` imports all of mmdet's models for one layer of a
detector, there is no option against it, and none of mmpretrain's backbones can be imported without that file. mmdet's
modules look for mmcv's operators once, when they are imported, and where mmcv has none keep functions that only raise:
detection would no longer work in a process that has imported a backbone before :mod:`mstkit.downstream`. Besides, an
mmdet that is broken would stop a pre-training, and importing would take half as long again.

mmpretrain's multi-modal models (BLIP, LLaVA and others) are left out, as mmpretrain itself does where there is no
transformers: they import functions that transformers 5 no longer has, so that mmpretrain would not import beside it at
all (tried with mmpretrain 1.3.6 and transformers 5.24).
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import warnings
from collections.abc import Iterator

REQUIRED = ('torch', 'torchvision', 'timm', 'mmengine', 'mmcv', 'mmpretrain.models', 'mmpretrain.datasets')
ONEDL_NOTICE = 'Could not import OneDL'


def load(names: tuple[str, ...] = REQUIRED, hide_mmdet: bool = True) -> None:
    """Imports the packages that mstkit cannot do without.

    Args:
        names: modules, in the order of their import.
        hide_mmdet: not for a downstream task, which imports mmdet itself.

    Raises:
        ImportError: one of them is missing or broken. Whatever it raised itself is the cause.
    """
    hidden = _mmdet_hidden() if hide_mmdet and 'mmdet.models' not in sys.modules else contextlib.nullcontext()
    with hidden, _without_notices():
        for name in names:
            try:
                if name.startswith('mmpretrain.'):  # its rooms read it when they are imported
                    vars(importlib.import_module('mmpretrain.utils.dependency'))['WITH_MULTIMODAL'] = False
                importlib.import_module(name)
            # A broken build raises nearly anything: OSError (shared library), RuntimeError (operators of another
            # torch), AssertionError (mmpretrain's check of mmcv's version).
            except Exception as error:
                reason = ' '.join(str(error).split()) or type(error).__name__
                raise ImportError(
                    f'mstkit needs {name.partition(".")[0]}, which does not import ({reason}): '
                    'run "python -m mstkit.doctor", it names the command that mends this.'
                ) from error


@contextlib.contextmanager
def _mmdet_hidden() -> Iterator[None]:
    mmdet = sys.modules.get('mmdet')
    sys.modules['mmdet'] = None  # type: ignore[assignment]  # Python's own way to say "not there"
    try:
        yield
    finally:
        del sys.modules['mmdet']
        if mmdet is not None:
            sys.modules['mmdet'] = mmdet


@contextlib.contextmanager
def _without_notices() -> Iterator[None]:
    printed = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(printed):
            warnings.filterwarnings('ignore', message='Fail to import ``MultiScaleDeformableAttention``')
            warnings.filterwarnings('ignore', message='faster_coco_eval is not installed')
            yield
    finally:
        lines = printed.getvalue().splitlines(keepends=True)
        sys.stdout.write(''.join(line for line in lines if not line.startswith(ONEDL_NOTICE)))
