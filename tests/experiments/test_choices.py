"""``--vary``: reading values, finding keys, expanding the grid."""

from __future__ import annotations

import inspect

import pytest
from mmengine.config import Config

from mstkit.errors import UsageError
from mstkit.experiments.config_keys import replace
from mstkit.experiments.variations import expand, parse_axes, read_table, read_value, split_values
from mstkit.registry import MODELS
from mstkit.utils.build_errors import accepted_arguments

from .toy_ablation import CONFIG, TABLE


@pytest.fixture
def config() -> Config:
    return Config.fromstring(CONFIG, '.py')


@pytest.mark.parametrize(
    ('text', 'values'),
    [
        ('1e-3,5e-4', [1e-3, 5e-4]),
        ('(0.1, 0.5),0.3', [(0.1, 0.5), 0.3]),
        ("[1,2],{'a': (1,2), 'b': [3]}", [[1, 2], {'a': (1, 2), 'b': [3]}]),
        ("bf16,'a,b',-2", ['bf16', 'a,b', -2]),
        ('true,False,none', [True, False, None]),
    ],
)
def test_values_are_python_and_commas_in_brackets_do_not_split(text, values):
    read = [read_value(word) for word in split_values(text)]
    assert read == values
    assert [type(value) for value in read] == [type(value) for value in values]


def test_the_grid_is_the_product(config):
    axes = parse_axes(['model.masker=none,mst', 'optim_wrapper.optimizer.lr=1e-3,0.002'], config, read_table(TABLE))
    choices = expand(axes)
    assert [choice.name for choice in choices] == ['none, lr=0.001', 'none, lr=0.002', 'mst, lr=0.001', 'mst, lr=0.002']
    assert choices[2].words == {'model.masker': 'mst', 'optim_wrapper.optimizer.lr': '0.001'}
    assert [choice.folder for choice in choices][:2] == ['none_lr=0.001', 'none_lr=0.002']


def test_names_stay_apart(config):
    choices = expand(parse_axes(['default_hooks.knn.ks=[1,2],[1],(1,)'], config, {}))
    assert [choice.name for choice in choices] == ['ks=[1, 2]', 'ks=[1]', 'ks=(1,)']
    assert len({choice.folder for choice in choices}) == 3
    assert all('[' not in choice.folder and ' ' not in choice.folder for choice in choices)
    same_end = ['param_scheduler.0.end=1,2', 'param_scheduler.1.end=3']
    assert expand(parse_axes(same_end, config, {}))[0].name == 'param_scheduler.0.end=1, param_scheduler.1.end=3'
    (hook,) = expand(parse_axes(['custom_hooks.1.type=ProgressHook'], config, {}))
    assert hook.name == 'custom_hooks.1.type=ProgressHook'


def test_a_choice_replaces_all_that_was_there(config):
    """The base masker's settings must not reach another one, nor an older value of the same type."""
    table = read_table(TABLE)
    for name, expected in (
        ('none', None),
        ('random-matched', dict(type='RandomMasker', prob=0.0125)),
        ('mst', dict(type='AttentionGuidedMasker', num=8, prob=0.1)),
    ):
        (choice,) = expand(parse_axes([f'model.masker={name}'], config, table))
        changed = choice.applied_to(config)
        assert changed.model.masker == expected
        assert changed.model.backbone == config.model.backbone


def test_values_reach_lists_types_and_lengths(config):
    replace(config, 'custom_hooks.1.interval', 5)
    replace(config, 'optim_wrapper.optimizer.type', 'SGD')
    replace(config, 'train_cfg.max_epochs', 10)
    replace(config, 'model.loss_weight_restore', 0.3)
    assert config.custom_hooks[1].interval == 5
    assert config.optim_wrapper.optimizer == dict(type='SGD', lr=1e-3), 'betas belong to AdamW'
    assert [schedule.end for schedule in config.param_scheduler] == [1, 10]
    assert config.model.loss_weight_restore == 0.3


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['model.masker=mst,radnom'], "no choice 'radnom'.*Did you mean random"),
        (['model.masker=mst,radnom'], 'The choices are none, random, random-matched'),
        (['model.maskr=none'], r"no 'model.maskr'\. Did you mean model\.masker"),
        (['modle.masker=none'], r'Did you mean model\.masker'),
        (['optim_wrapper.optimizer.lrr=1'], r'Did you mean optim_wrapper\.optimizer\.lr'),
        (['model.loss_weight_restor=1'], r'Did you mean model\.loss_weight_restore'),
        (['custom_hooks.7.interval=1'], r"no 'custom_hooks\.7\.interval'"),
        (['epochs=1,2'], r'variable of the config file.*train_cfg\.max_epochs'),
        (['randomness.seed=1,2'], '--seeds'),
        (['optim_wrapper.optimizer.lr=1e-3x'], 'number 0.001'),
        (['model.backbone=small'], 'dict or None'),
        (['model.masker'], 'KEY=VALUE'),
        (['=none'], 'KEY=VALUE'),
        (['model.masker=none,,mst'], 'empty value'),
        (['model.masker=none,mst,none'], 'named twice'),
        (['optim_wrapper.optimizer.lr=1e-3,0.001'], 'named twice'),
        (['optim_wrapper.optimizer.betas=(0.9,1'], 'do not close'),
        (['model.masker.type=a b'], 'no Python value'),
        (['model.masker=none', 'model.masker.prob=0.1'], 'part of the other'),
        (['model.masker=none', 'model.masker=mst'], 'part of the other'),
        ([], 'nothing is varied'),
    ],
)
def test_mistakes_get_one_message(config, words, message):
    with pytest.raises(UsageError, match=message) as caught:
        parse_axes(words, config, read_table(TABLE))
    assert '\n' not in str(caught.value)


def test_the_named_choices_fit_the_maskers():
    """Every entry whose class there is can be built; its settings are arguments of the class in any case."""
    table = read_table(TABLE)['model.masker']
    assert list(table)[:3] == ['none', 'random', 'random-matched']
    for settings in filter(None, table.values()):
        masker = MODELS.get(settings['type'])
        assert inspect.isclass(masker), settings
        assert set(settings) - {'type'} <= set(accepted_arguments(masker)), settings
        MODELS.build(settings)


def test_keys_that_change_together(config):
    table = {
        'model.masker+guide': {
            'a': dict(masker=dict(type='AttMaskHigh'), guide='ema'),
            'b': dict(masker=None, guide=None),
        }
    }
    first, second = expand(parse_axes(['model.masker+guide=a,b'], config, table))
    assert (first.name, second.name) == ('a', 'b')
    changed = first.applied_to(config)
    assert changed.model.masker == dict(type='AttMaskHigh') and changed.model.guide == 'ema'
    assert second.applied_to(config).model.masker is None
    with pytest.raises(UsageError, match='is varied too'):
        parse_axes(['model.masker+guide=a', 'model.masker.num=2'], config, table)
    with pytest.raises(UsageError, match='by named choices alone'):
        parse_axes(['model.masker+guides=a'], config, table)
