"""Finds contestants by name."""

from __future__ import annotations

import functools
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

from mmengine.logging import MMLogger

from mstkit.errors import UsageError

PEERS = ('lightly-dino', 'lightly-ibot')


def contestant(settings: dict[str, Any]) -> Callable[[], Any]:
    """Imports what a step needs, and returns what builds it: a step to be called again and again.

    Args:
        settings: ``name`` (a config file or one of :data:`PEERS`), ``options``, ``batch``, ``device``, ``dtype``,
            ``out_dim``, and for a peer ``sizes`` of the views.

    Raises:
        UsageError: what is asked for is not there.
    """
    common = {key: settings[key] for key in ('batch', 'device', 'dtype', 'out_dim')}
    if settings['name'] not in PEERS:
        from contest.our_step import OurStep

        MMLogger.get_current_instance().setLevel('WARNING')  # it lists every parameter group
        return functools.partial(OurStep, settings['name'], settings['options'], **common)
    if importlib.util.find_spec('lightly') is None:
        raise UsageError(f'--against {settings["name"]} needs lightly: pip install lightly, or --against none.')
    from contest.lightly_step import LightlyDINO, LightlyIBOT

    warnings.filterwarnings('ignore', '.*weight_norm.*', FutureWarning)  # lightly's, of every head
    kind = LightlyDINO if settings['name'] == 'lightly-dino' else LightlyIBOT
    return functools.partial(kind, settings['sizes'], **common)
