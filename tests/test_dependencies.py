"""Importing mstkit: silent about what concerns nobody, loud about the rest, helpful where a package is broken."""

from __future__ import annotations

from mstkit_waiting import MARK, THEIRS

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import mstkit
from mstkit import _dependencies

from . import warm

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a package called mstkit_probe, to be written by the test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, 'mstkit_probe', raising=False)
    return tmp_path / 'mstkit_probe.py'


def test_notices_are_held_back_and_nothing_else(module: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module.write_text(
        'import warnings\n'
        "print('Could not import OneDL')\nprint('Could not import OneDL. Skipping OneDL datasets.')\n"
        "print('Could not import something else')\n"
        "warnings.warn('Fail to import ``MultiScaleDeformableAttention`` from there')\n"
        "warnings.warn('another warning')\n",
        encoding='utf-8',
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        _dependencies.load(('mstkit_probe',))
    assert capsys.readouterr().out == 'Could not import something else\n'
    assert [str(warning.message) for warning in caught] == ['another warning']


def test_mmdet_is_hidden_while_loading_and_there_afterwards(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('mmdet', 'mmdet.models'):
        monkeypatch.delitem(sys.modules, name, raising=False)
    text = 'try:\n    import mmdet\nexcept ImportError:\n    hidden = True\nelse:\n    hidden = False\n'
    module.write_text(text, encoding='utf-8')
    _dependencies.load(('mstkit_probe',))
    assert sys.modules.pop('mstkit_probe').hidden is True
    assert 'mmdet' not in sys.modules
    monkeypatch.setitem(sys.modules, 'mmdet', sys)  # as mmdet's tools: their models are imported later
    _dependencies.load(('mstkit_probe',))
    assert sys.modules.pop('mstkit_probe').hidden is True
    assert sys.modules['mmdet'] is sys
    monkeypatch.setitem(sys.modules, 'mmdet.models', sys)  # a program that has them keeps them
    _dependencies.load(('mstkit_probe',))
    assert sys.modules.pop('mstkit_probe').hidden is False
    assert sys.modules['mmdet'] is sys


@pytest.mark.parametrize('error', ['OSError', 'RuntimeError', 'AssertionError', 'ImportError'])
def test_broken_package_is_one_sentence_that_names_the_doctor(module: Path, error: str) -> None:
    module.write_text(f"raise {error}('first line\\nsecond line')\n", encoding='utf-8')
    with pytest.raises(ImportError) as caught:
        _dependencies.load(('mstkit_probe',))
    message = str(caught.value)
    assert message.startswith('mstkit needs mstkit_probe, which does not import (first line second line): ')
    assert 'python -m mstkit.doctor' in message
    assert type(caught.value.__cause__).__name__ == error
    assert 'mmdet' not in sys.modules or sys.modules['mmdet'] is not None


NAMES = {
    'HOOKS': 'VisualizationHook',
    'OPTIM_WRAPPER_CONSTRUCTORS': 'LearningRateDecayOptimWrapperConstructor',
    'METRICS': 'MultiLabelMetric',
    'VISUALIZERS': 'UniversalVisualizer',
    'MODELS': 'LinearClsHead',
    'TRANSFORMS': 'RandAugment',
}
# Each by a fresh look: what an earlier one imported would hide a mistake.
LOOKS = f"""
import mstkit
import mstkit.registry as ours
missing = []
for registry, name in {NAMES}.items():
    with getattr(ours, registry).switch_scope_and_registry('mstkit') as found:
        if found.get(name) is None:
            missing.append(name)
print('missing:', missing)
"""


def test_importing_the_package_registers_and_stays_silent() -> None:
    """mmpretrain's names are found from the scope of mstkit, and nothing else has to be imported first.

    How threads wait is set by no import, not even by that of the programs' module where torch is there already.
    """
    code = 'import mstkit; from mstkit.registry import MODELS; from mmpretrain.registry import MODELS as theirs; '
    code += 'assert theirs.get("mstkit.MSTAlgorithm"); '
    code += (
        'assert theirs.get("VisionTransformer"); assert all(MODELS.get(n) for n in mstkit.__all__ if n[0].isupper())'
    )
    waiting = (*THEIRS, MARK)
    code += f'; import os, mstkit.engine, mstkit_waiting; assert not set(os.environ) & {set(waiting)}, os.environ'
    environment = {name: value for name, value in os.environ.items() if name not in waiting}
    command = [warm.foundations_python(), '-c', LOOKS + code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == 'missing: []', done.stdout
    for notice in ('OneDL', 'MultiScaleDeformableAttention', 'Line NMS'):
        assert notice not in done.stdout + done.stderr


IMPORT = """
import os, sys, warnings

class Unread(list):
    def _refuse(self, *_):
        raise AssertionError('the command line was read')

    __getitem__ = __iter__ = __len__ = __contains__ = __eq__ = _refuse

def state():
    return dict(os.environ), list(sys.path), list(sys.meta_path), list(warnings.filters), sys.stdout, sys.stderr

sys.argv, sys.orig_argv = Unread(sys.argv), Unread(sys.orig_argv)
before, modules = state(), dict(sys.modules)
import mstkit
"""
UNCHANGED = """
assert state() == before
assert all(sys.modules[name] is module for name, module in modules.items())
new = {name.partition('.')[0] for name in sys.modules.keys() - modules.keys()}
assert new - set(sys.stdlib_module_names) == {'mstkit'}, new
assert {name for name in sys.modules if name.partition('.')[0] == 'mstkit'} == {'mstkit', 'mstkit.version'}
"""
# Packages that mstkit is built on may set what they like, and read the command line: here it is about ours.
STAND_INS = """
import mstkit.registry
sys.argv, sys.orig_argv = Unread([]), Unread([])
environment = dict(os.environ)
from mstkit import datasets, engine, evaluation, interop, models, networks, visualization
assert dict(os.environ) == environment
found = [name for name, one in sys.modules.items() if one is None or type(one).__module__.startswith('mstkit')]
assert found == [] and 'mmcv._ext' not in sys.modules and 'mmdet' not in sys.modules, found
try:
    import mmcv.ops
except ImportError:
    import mstkit.downstream, mmcv.ops
"""


def run(code: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    return subprocess.run([python, '-c', code], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize('code', [UNCHANGED, STAND_INS], ids=['the package', 'its rooms'])
def test_importing_patches_nothing(code: str) -> None:
    python = sys.executable if code == UNCHANGED else warm.foundations_python()
    done = run(IMPORT.replace('import os,', 'import mstkit_waiting, os,') + code, python)  # as a program of ours
    assert done.returncode == 0, done.stderr


def test_the_check_sees_who_reads_the_command_line() -> None:
    for reading in ('sys.argv[0]', 'sys.orig_argv[1:]', 'list(sys.argv)', '"-m" in sys.argv'):
        assert 'the command line was read' in run(f'{IMPORT}\n{reading}').stderr


ROOMS = (
    'registry',
    'datasets',
    'engine',
    'evaluation',
    'models',
    'visualization',
    'interop',
    'networks',
    'conversion',
    'downstream',
)


@pytest.mark.parametrize('statement', ['from mstkit import DINO', *(f'import mstkit.{room}' for room in ROOMS)])
def test_importing_the_package_without_torch(statement: str, tmp_path: Path) -> None:
    (tmp_path / 'torch.py').write_text('raise OSError("libtorch_cpu.so: broken")\n', encoding='utf-8')
    environment = {**os.environ, 'PYTHONPATH': str(tmp_path)}
    command = [sys.executable, '-c', statement]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith('ImportError: mstkit needs torch, which does not import (libtorch_cpu.so: broken)')


def test_public_names() -> None:
    for name in mstkit.__all__:
        assert hasattr(mstkit, name)


def test_multi_modal_models_of_mmpretrain_are_left_out() -> None:
    """They import what transformers 5 no longer has, and would take all of mmpretrain with them."""
    import mmpretrain.models.multimodal as room
    from mmpretrain.utils import dependency

    assert dependency.WITH_MULTIMODAL is False
    assert not hasattr(room, 'blip')
    assert 'mmpretrain.models.multimodal.blip' not in sys.modules
