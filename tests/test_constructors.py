"""Every component refuses what its arguments cannot be, by their names, and computes finite numbers with the rest."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .components import ALL, CLASSES, NOT_HERE, OTHER_WORDS, make_files, small_defaults, taken_by
from .contracts import VALUES, complaint
from .generated_values import fault_with


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp('files')
    make_files(made)
    return made


@pytest.fixture(autouse=True)
def _small_defaults() -> Iterator[None]:
    with small_defaults():
        yield


@pytest.fixture(autouse=True)
def _own_folder(folder, tmp_path, monkeypatch) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def test_every_component_is_known_here():
    downstream = {name for name, where in NOT_HERE.items() if 'downstream' in where}
    assert set(CLASSES) - downstream == {*ALL, *NOT_HERE} - downstream
    assert not set(ALL) & set(NOT_HERE)


@pytest.mark.parametrize('name', ALL)
def test_a_component_with_values_that_it_cannot_take(name):
    cls, (base, use) = CLASSES[name], ALL[name]
    built = cls(**base)
    if use is not None:
        use(built)
    taken = taken_by(name)
    assert taken, f'{name} takes no argument'
    said_as = OTHER_WORDS.get(name, {})
    found = [
        said
        for argument, hint in taken.items()
        for value in VALUES
        if (said := complaint(cls, base, {argument: value}, {argument: hint}, use, said_as))
    ]
    assert not found, f'{name}: {len(found)}\n' + '\n'.join(found)


@pytest.mark.parametrize('name', ALL)
def test_a_component_with_generated_values(name):
    """Several arguments at a time, of values drawn by their annotations; more of them: tools/dev/chaos.py arguments."""
    tried, fault = fault_with(name, count=5, seed=0)
    assert fault is None and tried >= 5
