"""Overrides from the command line."""

from __future__ import annotations

import argparse
import re

import pytest
from mmengine.config import Config

from mstkit.engine.config.config_options import OptionsAction, apply_options
from mstkit.errors import UsageError


def config() -> Config:
    return Config(
        dict(
            model=dict(
                type='MSTAlgorithm',
                masker=dict(type='AttentionGuidedMasker', num=8, prob=0.1, _scope_='mstkit'),
                neck=dict(type='DINONeck', norm='all'),
                decoder=None,
            ),
            optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.99))),
            custom_hooks=[dict(type='ProgressHook'), dict(type='KNNHook', interval=3, ks=[10])],
        )
    )


def test_a_new_type_drops_what_belongs_to_the_old_one():
    changed = config()
    lines = apply_options(changed, {'model.masker.type': 'RandomMasker', 'model.masker.prob': 0.15})
    assert changed.model.masker == dict(type='RandomMasker', prob=0.15)
    assert lines == ['model.masker: AttentionGuidedMasker -> RandomMasker; dropped num=8']
    assert changed.model.neck == config().model.neck


def test_the_order_on_the_command_line_does_not_matter():
    changed = config()
    apply_options(changed, {'model.masker.ratio': 0.3, 'model.masker.type': 'RandomMasker'})
    assert changed.model.masker == dict(type='RandomMasker', ratio=0.3)


def test_what_belongs_to_the_slot_stays():
    changed = config()
    lines = apply_options(changed, {'optim_wrapper.optimizer.type': 'SGD', 'optim_wrapper.optimizer.momentum': 0.9})
    assert changed.optim_wrapper.optimizer == dict(type='SGD', lr=1e-3, momentum=0.9)
    assert lines == ['optim_wrapper.optimizer: AdamW -> SGD; dropped betas=(0.9, 0.99)']


def test_the_same_type_drops_nothing():
    changed = config()
    lines = apply_options(changed, {'model.masker.type': 'mstkit.AttentionGuidedMasker', 'model.masker.prob': 0.2})
    assert (changed.model.masker.num, changed.model.masker.prob, lines) == (8, 0.2, [])


@pytest.mark.parametrize('value', ['none', 'None', None])
def test_a_component_can_be_switched_off(value):
    changed = config()
    apply_options(changed, {'model.masker': value})
    assert changed.model.masker is None


def test_none_stays_a_word_where_it_is_one():
    changed = config()
    apply_options(changed, {'model.neck.norm': 'none'})
    assert changed.model.neck.norm == 'none'


def test_a_component_can_be_switched_on():
    changed = config()
    lines = apply_options(changed, {'model.decoder.type': 'CNNImageDecoder', 'model.decoder.depth': 2})
    assert changed.model.decoder == dict(type='CNNImageDecoder', depth=2)
    assert lines == ['model.decoder: none -> CNNImageDecoder']


def test_elements_of_lists_can_be_swapped():
    changed = config()
    lines = apply_options(changed, {'custom_hooks.1.type': 'PanelHook', 'custom_hooks.1.interval': 5})
    assert changed.custom_hooks[1] == dict(type='PanelHook', interval=5)
    assert lines == ['custom_hooks.1: KNNHook -> PanelHook; dropped ks=[10]']


@pytest.mark.parametrize(
    'path, suggestion',
    [('optim_wraper.optimizer.lr', 'optim_wrapper'), ('modle.masker', 'model'), ('costum_hooks', 'custom_hooks')],
)
def test_misspelt_names_are_refused(path, suggestion):
    with pytest.raises(UsageError, match=f'no {path.split(".")[0]!r}.*{suggestion}'):
        apply_options(config(), {path: 1})


@pytest.mark.parametrize('path', ['optim_wrapper.optimizer.lr.type', 'optim_wrapper.optimizer.lr.x'])
def test_a_path_through_a_number_is_refused(path):
    with pytest.raises(UsageError, match=r'optimizer\.lr'):
        apply_options(config(), {path: 'x'})


def test_keys_that_configs_may_lack_can_be_set():
    changed = config()
    apply_options(changed, {'randomness.seed': 2, 'load_from': 'x.pth', 'compile': True})
    assert (changed.randomness.seed, changed.load_from, changed.compile) == (2, 'x.pth', True)


def test_imports_on_the_command_line_would_come_too_late():
    with pytest.raises(UsageError, match='write them in the file'):
        apply_options(Config(dict(custom_imports=dict(imports=['a']))), {'custom_imports.imports': ['b']})


def parsed(*pairs: str) -> dict:
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=OptionsAction)
    return parser.parse_args(['--cfg-options', *pairs]).cfg_options


def test_values_are_parsed_as_by_mmengine():
    given = parsed('a.b=3', 'c=(0.2,0.4)', 'd=[x,(1,2)]', 'e=x=y', 'f=True', 'a.b=4')
    assert given == {'a.b': 4, 'c': (0.2, 0.4), 'd': ['x', (1, 2)], 'e': 'x=y', 'f': True}


@pytest.mark.parametrize(
    ('pair', 'says'),
    [
        ('foo', 'foo: give KEY=VALUE'),
        ('=3', 'give KEY=VALUE'),
        ("model.guide=dict(type='ema',momentum=0.9)", 'key by key, such as model.guide.type=NAME'),
        ("model.guide={'type':'ema'}", 'key by key'),
        ("objectives=[dict(type='KoLeo')]", 'key by key'),
        ('model.masker.ratio=(0.2,0.4', 'the brackets do not match'),
        ('model.masker.ratio=f(1,2)', 'the value is no number, word, list'),
    ],
)
def test_what_cannot_be_parsed_is_said_in_one_line(pair, says):
    """mmengine answers these with a traceback, some with one of a thousand calls."""
    with pytest.raises(UsageError, match=re.escape(says)) as caught:
        parsed(pair)
    assert str(caught.value).startswith(f'--cfg-options {pair}: ')
