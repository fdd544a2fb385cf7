"""Processes whose data differ are told so at the start, all of them; none is left waiting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from mstkit.engine.hooks import KNNHook
from mstkit.engine.parallel import data_agreement
from mstkit.engine.parallel.data_agreement import check_same, check_same_loader
from mstkit.errors import UsageError
from tests.engine import running, toy
from tests.engine.hooks.fakes import HookColors, make_runner  # noqa: F401  (registers the data set)


def _said(call: Any, *arguments: Any) -> str | None:
    try:
        call(*arguments)
    except UsageError as error:
        return str(error)
    return None


def _rank(rank: int, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    found['loaders'] = _said(check_same_loader, 'the training set', DataLoader(toy.ToyVectors(6 - rank), batch_size=1))
    found['equal'] = _said(check_same_loader, 'the training set', DataLoader(toy.ToyVectors(6), batch_size=2))
    # A whole runner: one image less on rank 1 is the same number of batches of the loader's, and is refused too.
    found['runner'] = _said(
        lambda: running.build(
            folder / f'rank{rank}',
            launcher='pytorch',
            train_dataloader__dataset=dict(type='ToyVectors', length=16 - rank),
        )
    )
    train, val = dict(type='HookColors', size=12), dict(type='HookColors', size=9)
    hook = KNNHook(train, dict(val, labeled=rank == 0))
    runner = make_runner(folder / f'knn{rank}', [])
    warned: list[str] = []
    runner.logger.warning = warned.append
    hook.before_run(runner)
    found['knn'] = (hook.loaders is None, warned)
    found['knn differs'] = _said(KNNHook(dict(train, size=12 + rank), val).before_run, runner)
    return found


def test_two_processes_with_different_data(run_two, tmp_path):
    zero, one = run_two(_rank, tmp_path)
    assert zero == one, 'both are told the same'
    assert zero['loaders'].startswith('the training set is not the same in all processes, images: 6 on rank 0, 5 on')
    assert zero['equal'] is None
    assert 'images: 16 on rank 0, 15 on rank 1' in zero['runner']
    assert not (tmp_path / 'rank0').exists(), 'before anything is written'
    off, warned = zero['knn']
    assert off and len(warned) == 1 and 'k-NN is off' in warned[0] and 'no labels' in warned[0]
    assert (
        'the k-NN train set is not the same in all processes, images: 12 on rank 0, 13 on rank 1' in zero['knn differs']
    )


def test_the_ranks_of_each_value_are_named(monkeypatch):
    monkeypatch.setattr(data_agreement.dist, 'get_world_size', lambda: 4)
    monkeypatch.setattr(
        data_agreement.dist, 'all_gather_object', lambda own: [own, dict(own, batches=9), own, dict(own, batches=9)]
    )
    with pytest.raises(UsageError, match=r'the data is not .*, batches: 8 on ranks 0 and 2, 9 on ranks 1 and 3'):
        check_same('the data', dict(images=5, batches=8))
