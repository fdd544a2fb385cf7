"""Refuses to resume a run with another config or with other images, unless the user accepts it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mstkit.engine.checkpoints.resume_rules import CHECKED, PLACE, REFUSED, SCHEDULE, Difference, compare
from mstkit.errors import UsageError
from mstkit.interop.literal_config import parse_config_text

_SHOWN = 8
_ACCEPTABLE = (REFUSED, PLACE, SCHEDULE)


def check_changes(path: Path, meta: Mapping[str, Any], config: Mapping[str, Any], data: Mapping[str, Any]) -> list[str]:
    """Compares config and images of a run with those of the checkpoint that it resumes.

    The checkpoint's config is parsed as Python literals; no code of it is executed.

    Args:
        path: of the checkpoint.
        meta: ``meta`` of the checkpoint.
        config: of this run; ``accept_changes=True`` accepts all differences.
        data: of this run's training set, see :func:`mstkit.engine.checkpoints.data_fingerprint.fingerprint`.

    Returns:
        Lines for the log: each difference, and whether it takes effect.

    Raises:
        UsageError: the model, the loss or the training data differ, and ``accept_changes`` is not set.
    """
    found, lines = _compare(path, meta.get('cfg'), config)
    images, moved = _other_images(meta.get('data'), data)
    refused = [one for one in found if one.rule == REFUSED or (one.rule == PLACE and not moved)]
    accepts = bool(config.get('accept_changes'))
    complaints = [*images, *(str(one) for one in refused)]
    if complaints and not accepts:
        more = f'; and {len(complaints) - _SHOWN} more' if len(complaints) > _SHOWN else ''
        raise UsageError(
            f'{path} is of a run with other settings: {"; ".join(complaints[:_SHOWN])}{more}. Resume with the settings '
            'of that run (its config is in its work dir), accept the changes with --accept-changes, or start a new '
            f'run from its weights with --cfg-options load_from={path} instead of --resume.'
        )
    lines += [f'not as in {path.name}: {line} (accepted)' for line in images]
    lines += [
        f'not as in {path.name}: {one} ({"accepted" if accepts and one.rule in _ACCEPTABLE else one.rule})'
        for one in found
        if one.rule != CHECKED
    ]
    return lines


def _compare(path: Path, text: Any, config: Mapping[str, Any]) -> tuple[list[Difference], list[str]]:
    if not config:
        return [], []  # the runner was built without a config
    if not isinstance(text, str) or not text.strip():
        return [], [f'{path} holds no config: it is not known whether this run has the same settings']
    try:
        return compare(parse_config_text(text), config), []
    except UsageError:
        return [], [f'the config in {path} is not plain data: it is not known whether this run has the same settings']


def _other_images(old: Any, new: Mapping[str, Any]) -> tuple[list[str], bool]:
    """A sentence in a list if the images differ, and whether they are known to be the same."""
    if not isinstance(old, Mapping) or not new:
        return [], False
    if old.get('count') != new['count']:
        return [f'it had {old.get("count")} training images, this run has {new["count"]}'], False
    if None in (old.get('names'), new['names']):
        return [], False
    if old['names'] != new['names']:
        return [f'its {new["count"]} training images had other names, or another order, than those of this run'], False
    return [], True
