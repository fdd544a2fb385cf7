"""docs/en/methods.md has a row for every method, with its class, a config of that class, and what the paper has."""

from __future__ import annotations

import inspect
import re

from mmengine.config import Config

from mstkit.models import algorithms
from mstkit.registry import MODELS

from .pages import ROOT, rows

CELLS = rows('methods.md', 'method')


def test_every_method_has_a_row():
    named = {name for row in CELLS for name in re.findall(r'`(\w+)`', row[1])}
    assert set(algorithms.__all__) <= named


def test_the_configs_of_a_row_are_of_its_class():
    for method, kind, *_, published, configs, _ in CELLS:
        files = re.findall(r'\]\(\.\./\.\./(configs/[^)]*\.py)\)', configs)
        assert files, method
        assert re.search(r'\d', published), method
        for file in files:
            model = Config.fromfile(ROOT / file).model
            assert f'`{model.type}`' in kind, file
            assert issubclass(MODELS.get(model.type), MODELS.get('Pretrainer'))


def test_every_option_of_self_distillation_has_a_row_with_a_key_that_exists():
    documented = {row[0]: row[1:] for row in rows('methods.md', 'option')}
    builds = {
        'KoLeo': ('KoLeo', 'weight'),
        'coding rate': ('CodingRate', 'squared_eps'),
        'SIGReg': ('SIGReg', 'directions'),
        'Sinkhorn centering': ('DINOHead', 'centering'),
        'a head for patches alone': ('IBOT', 'patch_neck'),
        'circular mask shift': ('BlockMasker', 'roll'),
        'stratified ratios': ('BlockMasker', 'stratified'),
        'registers': ('MaskedVisionTransformer', 'num_registers'),
    }
    assert set(documented) >= set(builds)
    for option, (part, argument) in builds.items():
        key, formula, *_, source = documented[option]
        assert argument in inspect.signature(MODELS.get(part)).parameters
        assert argument in key or part in key, option
        assert formula and source, option
