"""Every number and flag of the data loaders and of the runner is refused by its path when it cannot be one."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mstkit.engine.config.loader_checks import check_settings
from mstkit.errors import UsageError

from . import running, toy

NO_NUMBER: tuple[Any, ...] = ('text', True, math.nan, 1.5, [1])
LOADER = {
    'batch_size': (0, -1, None, 1e12, 10**12, *NO_NUMBER),
    'num_workers': (-1, None, 10**9, *NO_NUMBER),
    'prefetch_factor': (0, -1, 10**9, *NO_NUMBER),
    'persistent_workers': ('False', 1, None),
    'drop_last': ('False', 1, None),
    'pin_memory': ('False', 1),
    'shuffle': ('False', 1),
    'timeout': (-1, 'text', True, math.nan),
    'num_batch_per_epoch': (0, -1, *NO_NUMBER),
}
INTERVAL = (-2, None, 10**400, *NO_NUMBER)
RUN = {
    'train_cfg.max_epochs': (0, -1, None, 10**400, *NO_NUMBER),
    'train_cfg.val_interval': (0, -1, None, *NO_NUMBER),
    'train_cfg.val_begin': (-1, *NO_NUMBER),
    'train_cfg.dynamic_intervals': ('text', 3, [3], [[-1, 2]]),
    'train_cfg.by_epoch': ('False', 1),
    'optim_wrapper.accumulative_counts': (0, -1, None, *NO_NUMBER),
    'optim_wrapper.optimizer.lr': (-1, None, 'text', True, math.nan, math.inf),
    'optim_wrapper.optimizer.weight_decay': (-1, None, 'text', True, math.nan),
    'default_hooks.logger.interval': (0, -1, *INTERVAL),
    'default_hooks.checkpoint.interval': INTERVAL,
    'custom_hooks.0.interval': INTERVAL,
    'randomness.seed': (-1, 2**32, *NO_NUMBER),
    'randomness.deterministic': ('False', 1, None),
    'auto_scale_lr.base_batch_size': (0, -1, *NO_NUMBER),
    'auto_scale_lr.enable': ('False', 1, None),
    'log_processor.window_size': (0, -1, None, *NO_NUMBER),
    'log_level': ('LOUD', ''),
}
PATHS = {f'{loader}_dataloader.{name}': LOADER[name] for loader in ('train', 'val', 'test') for name in LOADER}


def settings(path: str = 'log_level', value: Any = 'ERROR') -> dict[str, Any]:
    """The toy's, with a value; all loaders and a logger are there."""
    built = toy.settings()
    built['val_dataloader'], built['test_dataloader'] = (dict(built['train_dataloader']) for _ in range(2))
    built['default_hooks']['logger'] = dict(type='LoggerHook')
    built['log_processor'] = {}
    *parents, last = path.split('.')
    node: Any = built
    for parent in parents:
        node = node[int(parent) if parent.isdigit() else parent]
    node[last] = value
    return built


@pytest.mark.parametrize('path', [*PATHS, *RUN])
def test_a_value_that_a_setting_cannot_have_is_refused_by_its_path(path):
    assert check_settings(settings()) == []
    for value in {**PATHS, **RUN}[path]:
        with pytest.raises(UsageError) as caught:
            check_settings(settings(path, value))
        assert str(caught.value).startswith(f'{path}'), f'{value!r}: {caught.value}'


@pytest.mark.parametrize('path', ['train_dataloader', 'train_cfg', 'default_hooks', 'custom_hooks', 'randomness'])
def test_a_part_that_is_no_dict_is_refused_by_its_path(path):
    with pytest.raises(UsageError, match=f"^{path} is 'text': give"):
        check_settings(settings(path, 'text'))


@pytest.mark.parametrize('part', ['dataset', 'sampler'])
def test_a_loader_without_a_part(part):
    config = settings()
    del config['val_dataloader'][part]
    with pytest.raises(UsageError, match=rf'^val_dataloader has no {part}: give one, such as dict\(type='):
        check_settings(config)


@pytest.mark.parametrize(
    ('path', 'value'),
    [
        ('train_dataloader.num_workers', 128),
        ('train_dataloader.prefetch_factor', None),
        ('train_cfg.dynamic_intervals', [(0, 2), (5, 1)]),
        ('default_hooks.checkpoint.interval', -1),
        ('default_hooks.logger', None),
        ('randomness.seed', None),
        ('log_level', 10),
        ('train_cfg', None),
        ('val_dataloader', None),
    ],
)
def test_a_value_that_a_setting_can_have(path, value):
    config = settings(path, value)
    before = dict(config)
    assert check_settings(config) == []
    assert config.keys() == before.keys()


def test_nothing_is_written_before_the_settings_are_checked(tmp_path):
    with pytest.raises(UsageError, match=r'^train_cfg\.val_interval is 0: give a whole number'):
        running.build(tmp_path / 'work', train_cfg__val_interval=0)
    assert not (tmp_path / 'work').exists()


def test_without_worker_processes_what_is_theirs_is_left_out_and_said(tmp_path):
    theirs = dict(persistent_workers=True, prefetch_factor=4, timeout=30)
    loader = {f'train_dataloader__{name}': value for name, value in theirs.items()}
    runner = running.build(tmp_path / 'work', log_level='INFO', **loader)
    runner.train()
    assert runner.train_dataloader.num_workers == 0 and not runner.train_dataloader.persistent_workers
    (log,) = (tmp_path / 'work').glob('*/*.log')
    said = 'train_dataloader.num_workers is 0: without worker processes persistent_workers=True and prefetch_factor=4'
    assert said in log.read_text()
    with_workers = settings('train_dataloader.num_workers', 1)
    with_workers['train_dataloader'].update(theirs)
    assert check_settings(with_workers) == []
    assert with_workers['train_dataloader']['persistent_workers'] is True
