"""Builds contestants by name."""

from __future__ import annotations

import functools
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

from mmengine.logging import MMLogger

from mstkit.errors import UsageError

# How many of its views are global, by peer.
PEERS = {'lightly-dino': 2, 'lightly-ibot': 2, 'lightly-mae': 1, 'mmpretrain-mae': 1}


def contestant(settings: dict[str, Any]) -> Callable[[], Any]:
    """Imports the modules of a step, and returns a function that builds the step, which is called repeatedly.

    Args:
        settings: ``name`` (a config file or one of :data:`PEERS`), ``options``, ``batch``, ``device``, ``dtype``,
            ``out_dim``, and for a peer ``sizes`` of the views.

    Raises:
        UsageError: the package of the contestant is not installed.
    """
    common = {key: settings[key] for key in ('batch', 'device', 'dtype', 'out_dim')}
    if settings['name'] not in PEERS:
        from contest.our_step import OurStep

        MMLogger.get_current_instance().setLevel('WARNING')  # mmengine logs every parameter group
        return functools.partial(OurStep, settings['name'], settings['options'], **common)
    if settings['name'] == 'mmpretrain-mae':
        from contest.mae_steps import MMPretrainMAE

        return functools.partial(MMPretrainMAE, settings['sizes'], **common)
    if importlib.util.find_spec('lightly') is None:
        raise UsageError(f'--against {settings["name"]} needs lightly: pip install lightly, or --against none.')
    if settings['name'] == 'lightly-mae':
        from contest.mae_steps import LightlyMAE

        warnings.filterwarnings(
            'ignore', '.*MAEDecoderTIMM.*', FutureWarning
        )  # the newer name is not in older versions

        return functools.partial(LightlyMAE, settings['sizes'], **common)
    from contest.lightly_step import LightlyDINO, LightlyIBOT

    warnings.filterwarnings('ignore', '.*weight_norm.*', FutureWarning)  # lightly's, of every head
    kind = LightlyDINO if settings['name'] == 'lightly-dino' else LightlyIBOT
    return functools.partial(kind, settings['sizes'], **common)
