"""Imports what mstkit builds on, quietly, and says in one sentence what to do where that fails.

mmpretrain's registries know its components only once ``mmpretrain.models`` and ``mmpretrain.datasets`` are imported.
On the way, notices are printed that concern nobody who pre-trains; these and no others are held back:

* mmcv without compiled operators warns that ``MultiScaleDeformableAttention`` is missing;
* mmpretrain imports mmdet's models for the sake of one layer of a detector, and mmdet logs that "Line NMS is not
  compiled". Here mmpretrain does not see mmdet unless the program imported those models before: that also takes a third
  off the time, an mmdet that is broken cannot stop a pre-training, and mmdet's models, which take mmcv's operators when
  they are imported, find the ones that mstkit provides. mmdet's own tools need that: they import a part of mmdet, then
  the config, and with it mstkit;
* mmpretrain, mmdet and mmseg print "Could not import OneDL", a commercial data store;
* mmdet warns that an optional, faster evaluation is not installed.
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
    with _without_notices(hide_mmdet and 'mmdet.models' not in sys.modules):
        for name in names:
            try:
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
def _without_notices(hide_mmdet: bool) -> Iterator[None]:
    printed = io.StringIO()
    mmdet = sys.modules.get('mmdet')
    if hide_mmdet:
        sys.modules['mmdet'] = None  # type: ignore[assignment]  # Python's own way to say "not there"
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(printed):
            warnings.filterwarnings('ignore', message='Fail to import ``MultiScaleDeformableAttention``')
            warnings.filterwarnings('ignore', message='faster_coco_eval is not installed')
            yield
    finally:
        if hide_mmdet:
            del sys.modules['mmdet']
            if mmdet is not None:
                sys.modules['mmdet'] = mmdet
        lines = printed.getvalue().splitlines(keepends=True)
        sys.stdout.write(''.join(line for line in lines if not line.startswith(ONEDL_NOTICE)))
