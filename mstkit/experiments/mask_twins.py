"""Finds, for each choice of a mask, the random mask that hides as many patches."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmengine.config import Config

from mstkit.engine.config.config_options import find
from mstkit.errors import UsageError
from mstkit.experiments.variations import Choice, keys_of

MASKER, GUIDE = 'model.masker', 'model.guide'
UNGUIDED = 'teacher'  # the default of every method, which costs nothing where no masker asks for scores
RandomTwin = Callable[[Any], dict[str, Any] | None]


def with_twins(
    choices: Sequence[Choice], known: Sequence[Choice], config: Config, random_twin: RandomTwin
) -> tuple[list[Choice], dict[str, str]]:
    """Adds the random twin of each choice that has one and is not among the choices yet.

    A twin is the choice with another masker and no guide; what else the choice sets, such as objectives, it keeps.
    Choices that hide equally many share their twin. It has the name of the choice that it equals, among those of the
    plan and then among the known ones, or else ``CHOICE~random``.

    Args:
        choices: of the plan.
        known: further choices that a twin may equal.
        config: of the method.
        random_twin: the masker that is the twin of a masker; None if it needs none.

    Returns:
        The choices with their twins, and the name of the twin by choice.

    Raises:
        UsageError: no choice has a twin.
    """
    planned, twins = list(choices), dict[str, str]()
    patches = _patches(config)
    for choice in choices:
        values = _twin_values(choice, random_twin)
        if values is None:
            continue
        wanted = _canonical(values, patches)
        equal = [one for one in (*planned, *known) if _canonical(one.values, patches) == wanted]
        twin = equal[0] if equal else _twin(choice, values)
        if twin.name not in {one.name for one in planned}:
            planned.append(twin)
        twins[choice.name] = twin.name
    if not twins:
        raise UsageError('--twins: no choice has a mask that could be compared with a random one.')
    return planned, twins


def _twin_values(choice: Choice, random_twin: RandomTwin) -> dict[str, Any] | None:
    for key, value in choice.values.items():
        paths = keys_of(key)
        if MASKER not in paths:
            continue
        masker = value if len(paths) == 1 else value['masker']
        twin = random_twin(masker)
        if twin is None:
            return None
        changed = twin if len(paths) == 1 else {**value, 'masker': twin}
        if GUIDE in paths:
            changed['guide'] = UNGUIDED
        return {**choice.values, key: changed}
    return None


def _twin(choice: Choice, values: dict[str, Any]) -> Choice:
    name = f'{choice.name}~random'
    last = next(reversed(choice.words))
    return Choice(name, {**choice.words, last: f'{choice.words[last]}~random'}, values)


def _canonical(values: Mapping[str, Any], patches: int | None) -> Any:
    """Values by single keys, of which equal ones set the same; a random share is its count of patches, if known."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        paths = keys_of(key)
        flat.update({path: value if len(paths) == 1 else value[path.rpartition('.')[2]] for path in paths})
    masker = flat.get(MASKER)
    if isinstance(masker, Mapping) and masker.get('type') == 'RandomMasker':
        flat[MASKER] = _canonical_random(masker, patches)
    return _plain(flat)


def _canonical_random(masker: Mapping[str, Any], patches: int | None) -> dict[str, Any]:
    settings = dict(masker)
    if settings.get('image_prob') == 1:
        del settings['image_prob']
    ratio, up = settings.get('ratio'), settings.get('rounding', 'down') == 'up'
    if isinstance(ratio, int | float) and patches is not None:
        settings.pop('rounding', None)
        settings['ratio'] = math.ceil(ratio * patches - 1e-9) if up else int(ratio * patches)
    return settings


def _plain(value: Any) -> Any:
    """Without the difference of lists and tuples, of Config's dicts and others."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _patches(config: Config) -> int | None:
    """The patches of a view; None if the config does not say its size, or the backbone is no ViT."""
    backbone = find(config, 'model.backbone')[1] or {}
    size, patch = backbone.get('img_size'), backbone.get('patch_size')
    return (size // patch) ** 2 if isinstance(size, int) and isinstance(patch, int) else None
