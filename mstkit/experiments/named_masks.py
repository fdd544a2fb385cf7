"""``--masks``: names that mean the same mask in every method, and what a method sets for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mstkit.engine.config.config_options import find
from mstkit.engine.launch.launch import read_config
from mstkit.errors import UsageError, nearest
from mstkit.experiments.config_keys import check_key
from mstkit.experiments.variations import Choice, keys_of

WORD = 'mask'  # under which a choice of --masks is recorded


@dataclass(frozen=True)
class Family:
    """Methods that take the same masks, and are measured alike.

    Attributes:
        name: in messages.
        branch: of a checkpoint, the one that papers of the family measure.
        probe: the preset of the linear probe.
        masks: what is set for each mask, by config key; or a sentence that says why the family cannot take it.
    """

    name: str
    branch: str
    probe: str
    masks: Mapping[str, Mapping[str, Any] | str]


def family_of(config: Config, table: str | Path) -> Family | None:
    """The family of a config's method; None if the table of choices does not name it."""
    kind = str((config.get('model') or {}).get('type')).split('.')[-1]
    for name, facts in read_config(table)['families'].items():
        if kind in facts['types']:
            return Family(name, facts['branch'], facts['probe'], facts['masks'].to_dict())
    return None


def mask_choices(names: Sequence[str], config: Config, family: Family | None, base: str | Path) -> list[Choice]:
    """The choices of ``--masks``.

    Args:
        names: of the masks.
        config: of the method.
        family: of the method.
        base: the config file, for messages.

    Raises:
        UsageError: a method without a family, an unknown mask (with the nearest), one that is named twice, or one that
            the method cannot take.
    """
    kind = find(config, 'model.type')[1]
    if family is None:
        raise UsageError(f'--masks: {base} trains {kind}, whose masks have no common names; use --vary for it.')
    choices: list[Choice] = []
    for name in names:
        if name not in family.masks:
            raise UsageError(
                f'--masks {name}: there is no mask {name!r}.{nearest(name, family.masks)} The masks are '
                f'{", ".join(known for known, values in family.masks.items() if not isinstance(values, str))}.'
            )
        values = family.masks[name]
        if isinstance(values, str):
            raise UsageError(f'--masks {name}: {kind} of {base} cannot take it: {values}.')
        if any(choice.name == name for choice in choices):
            raise UsageError(f'--masks: {name} is named twice.')
        for key in values:
            for path in keys_of(key):
                check_key(config, path)
        choices.append(Choice(name, {WORD: name}, dict(values)))
    return choices


def named_choices(family: Family | None) -> list[Choice]:
    """All masks of a family."""
    masks = {} if family is None else family.masks
    return [Choice(name, {WORD: name}, dict(values)) for name, values in masks.items() if not isinstance(values, str)]
