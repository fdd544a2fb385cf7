"""Names in a runner's settings that nothing reads are refused with the nearest ones; what is read passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.runner import EpochBasedTrainLoop

from mstkit.engine.config.config_values import RUNNER_KEYS
from mstkit.engine.config.setting_names import check_names
from mstkit.errors import UsageError

from . import running
from .test_loader_checks import settings

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(path for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts)


@pytest.mark.parametrize(
    ('path', 'value', 'says'),
    [
        ('train_cfg.max_epoch', 3, 'Did you mean max_epochs'),
        ('train_cfg.val_intervall', 3, 'Did you mean val_interval'),
        ('train_dataloader.batch_sise', 3, 'Did you mean batch_size'),
        ('val_dataloader.num_worker', 3, 'Did you mean num_workers'),
        ('test_dataloader.collate', 3, 'Did you mean collate_fn'),
        ('randomness.sead', 0, 'Did you mean seed'),
        ('auto_scale_lr.base_batchsize', 64, 'Did you mean base_batch_size'),
        ('env_cfg.cudnn_benchmarkk', True, 'Did you mean cudnn_benchmark'),
        ('env_cfg.cpus', {}, 'Did you mean cpu'),
    ],
)
def test_a_name_that_nothing_reads_is_refused(path, value, says):
    given = settings()
    given.update(env_cfg={}, auto_scale_lr={})
    node: Any = given
    *parents, last = path.split('.')
    for parent in parents:
        node = node.setdefault(parent, {})
    check_names(given)
    node[last] = value
    with pytest.raises(UsageError, match=rf'^{path}: nothing reads it\. {says}.*There are: '):
        check_names(given)


@pytest.mark.parametrize(
    ('loop', 'refused'),
    [
        (dict(type='IterBasedTrainLoop', max_iters=3, val_interval=1), None),
        (dict(by_epoch=False, max_iters=3), None),
        (dict(by_epoch=False, max_epochs=3), 'max_epochs'),
        (dict(type='EpochBasedTrainLoop', _scope_='mmengine', max_epochs=3), None),
        (dict(type='EpochBasedTrainLoop', max_iters=3), 'max_iters'),
        (dict(type='NobodyKnowsThisLoop', anything=3), None),  # refused when it is looked for
    ],
)
def test_what_a_loop_takes_depends_on_the_loop(loop, refused):
    given = settings()
    given['train_cfg'] = loop
    if refused is None:
        check_names(given)
    else:
        with pytest.raises(UsageError, match=rf'^train_cfg\.{refused}: nothing reads it'):
            check_names(given)


@pytest.mark.parametrize(
    ('name', 'meant'),
    [
        ('optim_wraper', 'optim_wrapper'),
        ('optimwrapper', 'optim_wrapper'),
        ('train_dataloaders', 'train_dataloader'),
        ('default_hook', 'default_hooks'),
        ('param_schedulers', 'param_scheduler'),
        ('custom_hook', 'custom_hooks'),
        ('eval_dataloader', 'val_dataloader'),
    ],
)
def test_a_variable_with_nearly_the_name_of_a_setting_is_refused(name, meant):
    with pytest.raises(UsageError, match=f'^the config sets {name}, which nothing reads. Did you mean {meant}'):
        check_names(dict(cfg=Config({name: {}})))


def test_variables_that_help_to_write_a_config_pass():
    names = ['models', 'test_dataloader2', 'val_dataloader_flipped', 'train_pipeline', 'train_dataset', 'optimizer']
    names += ['_optim_wraper', 'epochs', *RUNNER_KEYS]
    check_names(dict(cfg=Config({name: 1 for name in names})))


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.relative_to(ROOT / 'configs').as_posix())
def test_every_config_passes(path):
    config = Config.fromfile(path)
    check_names(dict(config, cfg=config))


class Unbuildable(EpochBasedTrainLoop):
    def __init__(self, runner, dataloader, max_epochs):
        raise TypeError('no loop today')


def test_a_loop_that_cannot_be_built_is_said_in_a_sentence_and_in_the_log(tmp_path):
    loop = dict(type=Unbuildable, max_epochs=3)
    runner = running.build(tmp_path / 'work', log_level='INFO', train_cfg=loop)
    with pytest.raises(UsageError, match=r'^Unbuildable cannot be built: TypeError: no loop today$'):
        runner.train()
    (log,) = (tmp_path / 'work').glob('*/*.log')
    assert 'the run stopped at iteration 0 (epoch 1): Unbuildable cannot be built' in log.read_text()


def test_a_schedule_names_its_arguments(tmp_path):
    schedule = [dict(type='LinearLR', beginn=0, end=1, by_epoch=True, convert_to_iter_based=True)]
    with pytest.raises(UsageError, match=r"^LinearLR has no argument 'beginn'\. Did you mean begin.*It takes: "):
        running.build(tmp_path / 'work', param_scheduler=schedule)
