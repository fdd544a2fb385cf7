"""Values of a config that depend on how many images and steps there are: chosen at the start, said, and overridable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config

from mstkit.datasets.dataset_interface import known_from_config
from mstkit.engine.config.config_options import FITTED, find
from mstkit.errors import UsageError, nearest
from mstkit.registry import DATASETS

FEWEST_STEPS = 750
WARM_UP = 0.1


@dataclass(frozen=True)
class RunSize:
    """How large a run is.

    Attributes:
        images: of the training set.
        epochs: of the run.
        processes: that share a step.
        batch: images per process and step.
    """

    images: int
    epochs: int
    processes: int = 1
    batch: int = 32

    @property
    def steps(self) -> int:
        """Of the whole run; an epoch leaves out what does not fill a batch."""
        return max(1, self.images // (self.batch * self.processes)) * self.epochs


def batch(size: RunSize) -> int:
    """A power of two from 32 to 256 over all processes that leaves 750 steps, and eight of them in an epoch."""
    room = min(size.images * size.epochs / FEWEST_STEPS, size.images / 8)
    chosen = 32
    while chosen < 256 and 2 * chosen <= room:
        chosen *= 2
    return max(1, chosen // size.processes)


def prototypes(size: RunSize) -> int:
    """A power of two from 256 to 4,096, about one for fifteen images."""
    chosen = 256
    while chosen < 4096 and 2 * chosen <= 1.5 * size.images / 15:
        chosen *= 2
    return chosen


def momentum(size: RunSize) -> float:
    """The teacher averages over a tenth of the run's steps: from 0.97 in short runs to 0.996, DINO's, in long ones."""
    return round(min(0.996, max(0.97, 1 - 10 / size.steps)), 4)


def warmup(size: RunSize) -> float:
    """A tenth of the run, in epochs."""
    return round(WARM_UP * size.epochs, 3)


# In the order in which they are applied: the number of steps follows from the batch.
RULES: dict[str, Callable[[RunSize], Any]] = dict(batch=batch, prototypes=prototypes, momentum=momentum, warmup=warmup)


def fit(config: Config, processes: int = 1) -> list[str]:
    """Chooses the values that the config's ``fitted`` names, by the number of training images and the epochs.

    ``fitted`` maps the name of a rule (:data:`RULES`) to dotted paths of values; it is taken out of the config, so that
    what is written beside the run has the chosen values and nothing to choose. Where the number of images is not known
    from the config of the data set (:meth:`KnownFromConfig.images_of`) all values stay, which is said.

    Args:
        config: changed in place; its data root is set.
        processes: that share a step.

    Returns:
        A line for the user, or none.

    Raises:
        UsageError: an unknown rule, or a path that the config does not have.
    """
    wanted = config.pop(FITTED, None) or {}
    for name, paths in wanted.items():
        if name not in RULES:
            raise UsageError(f'fitted.{name} is no rule.{nearest(name, RULES)}')
        for path in paths:
            if not find(config, path)[0]:
                raise UsageError(f'fitted.{name} names {path}, which the config does not have')
    if not any(wanted.values()):
        return []
    dataset = config.train_dataloader.dataset
    images = known_from_config(DATASETS.get(str(dataset.get('type')))).images_of(dataset)
    if images is None:
        return [f'not fitted to the number of images, which is not known before {dataset.get("type")} is built']
    size = RunSize(images, config.train_cfg.max_epochs, processes, config.train_dataloader.batch_size)
    chosen = []
    for name, rule in RULES.items():
        for path in wanted.get(name, ()):
            value = rule(size)
            config.merge_from_dict({path: value}, allow_list_keys=True)
            chosen.append(f'{path}={value}')
        size = RunSize(size.images, size.epochs, size.processes, config.train_dataloader.batch_size)
    return [f'fitted to {images:,} images and {size.epochs} epochs ({size.steps:,} steps): {" ".join(chosen)}']
