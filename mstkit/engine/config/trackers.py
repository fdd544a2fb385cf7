"""``--track``: trackers of experiments beside the files of the work dir, by the backends of the visualizer."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config

from mstkit.errors import UsageError


class Known(NamedTuple):
    """A tracker that ``--track`` knows; its package has its name.

    Attributes:
        backend: the type of the backend.
        mmengine: that of mmengine's backend for it, which a config may have.
        named: whether the backend takes the name of the run.
    """

    backend: str
    mmengine: str
    named: bool = True


TRACKERS = {
    'tensorboard': Known('TensorboardVisBackend', 'TensorboardVisBackend', named=False),
    'wandb': Known('mstkit.WandbTracker', 'WandbVisBackend'),
    'mlflow': Known('mstkit.MLflowTracker', 'MLflowVisBackend'),
}


def add_trackers(config: Config, names: Sequence[str]) -> list[str]:
    """Adds the backends of trackers to the visualizer of a training.

    A tracker that the config has already keeps its settings there. The run has the name of its work dir.

    Args:
        config: changed in place.
        names: of :data:`TRACKERS`.

    Returns:
        A line for the user, or none.

    Raises:
        UsageError: the package of a tracker is not installed, or the config has no visualizer.
    """
    if not names:
        return []
    visualizer = config.get('visualizer')
    if not visualizer:
        raise UsageError(f'--track {" ".join(names)}: the config has no visualizer, through which trackers are told.')
    backends = [*(visualizer.get('vis_backends') or ())]
    run = Path(config.get('work_dir') or '.').resolve().name
    for name in dict.fromkeys(names):
        if importlib.util.find_spec(name) is None:
            raise UsageError(f'--track {name}: its package is not installed: pip install {name}')
        known = TRACKERS[name]
        if not any(_is(backend, known) for backend in backends):
            backends.append(dict(type=known.backend, **(dict(run=run) if known.named else {})))
    visualizer['vis_backends'] = backends
    return [f'tracked by {", ".join(dict.fromkeys(names))}, as {run}']


def without_trackers(config: Config) -> None:
    """Takes the trackers away, for a measurement with the config of a training: it is no run of its own."""
    visualizer = config.get('visualizer') or {}
    if visualizer.get('vis_backends'):
        visualizer['vis_backends'] = [
            backend for backend in visualizer['vis_backends'] if not any(_is(backend, one) for one in TRACKERS.values())
        ]


def _is(backend: Mapping[str, Any], known: Known) -> bool:
    return str(backend.get('type')).split('.')[-1] in (known.backend.split('.')[-1], known.mmengine)
