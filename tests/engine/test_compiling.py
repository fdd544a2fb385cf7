"""``compile`` changes how a step is computed, not what comes out, and compiles nothing anew once it has started."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from torch import nn

from mstkit.engine.runner.compiling import check_compiling, compile_parts, wants_compiling
from mstkit.errors import UsageError
from mstkit.structures import Progress
from tests.engine.same_numbers import WRITTEN, trained
from tests.models import builders

from . import running
from .test_moby_run import RUN

# The tracing and the gradients of a real compilation, without a compiler.
TRACED = dict(backend='aot_eager')
VIT_CASES = ('dino/dino_vit-tiny_folder', 'mst/mst_vit-tiny_folder', 'attmask/attmask-high_vit-tiny_folder')


@pytest.fixture(scope='module', autouse=True)
def nothing_stays():
    """What dynamo has compiled, which these tests share, and how it is set end with them."""
    import torch._dynamo as dynamo

    before = dynamo.config.optimize_ddp, dynamo.config.cache_size_limit
    dynamo.reset()
    yield
    dynamo.reset()
    dynamo.config.optimize_ddp, dynamo.config.cache_size_limit = before


@pytest.fixture(autouse=True)
def _default_stance():
    yield
    torch.compiler.set_stance('default')


def first_step() -> Progress:
    """Of a hundred."""
    return Progress(0, 100, 10, 0, 0)


@pytest.mark.parametrize('case', VIT_CASES)
def test_numbers_are_those_without_and_two_resolutions_compile_nothing_anew(case):
    compiled = []

    def before_step(step, model):
        if step == 0:
            compiled.append(compile_parts(model, TRACED))
        if step == 2:
            torch.compiler.set_stance('fail_on_recompile')

    found = trained(case, before_step)
    assert '6 x EncoderLayer' in compiled[0], 'three of the student, three of the teacher'
    assert '2 x DINONeck' in compiled[0]
    for name, values in json.loads(WRITTEN.read_text())[case].items():
        assert found[name] == pytest.approx(values, rel=1e-5, abs=1e-5), name


def test_layers_of_any_depth_share_their_graphs():
    import torch._dynamo.utils as utils

    torch._dynamo.reset()
    utils.counters.clear()
    counts = []
    for depth in (2, 5):
        model = builders.mst(backbone={**builders.VIT, 'arch': {**builders.TINY, 'num_layers': depth}}, masker=None)
        compile_parts(model, TRACED)
        model.set_progress(first_step())
        model.loss(builders.views(local=0))['loss_ce'].backward()
        counts.append(utils.counters['stats']['unique_graphs'])  # of both, since nothing was reset in between
    assert counts[0] == counts[1] > 0


def test_evaluation_and_names_stay_as_they_are():
    model = builders.mst()
    names, images = list(model.state_dict()), builders.views()[0]
    before = model.eval().backbone.forward_tokens(images).pooled
    compile_parts(model, TRACED)
    torch.compiler.set_stance('fail_on_recompile')
    assert torch.equal(model.backbone.forward_tokens(images).pooled, before)
    assert list(model.state_dict()) == names


def test_with_activation_checkpointing_gradients_are_the_same():
    gradients = []
    for settings in (None, TRACED):
        torch.manual_seed(0)
        arch = {**builders.TINY, 'num_layers': 2}  # a layer without stochastic depth, and one with it
        model = builders.mst(backbone={**builders.VIT, 'arch': arch, 'with_cp': True, 'drop_path_rate': 0.3})
        compile_parts(model, settings)
        model.set_progress(first_step())
        torch.manual_seed(1)
        # Of one resolution, in two thirds of the time; of two, tests/engine/test_distributed_compiling.py compares.
        builders.total(model.loss(builders.views(batch=4, local=0))).backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * max(1.0, float(a.abs().max())))


@pytest.mark.parametrize('relative', ['shared', 'per_layer'])
def test_biases_by_relative_position_are_no_part_of_a_graph_and_get_their_gradient(relative):
    """They differ from layer to layer and from view to view."""
    gradients = []
    parts = dict(relative_positions=relative, positions='none', qkv_bias='qv_bias', layer_scale_init_value=0.1)
    for settings in (None, TRACED):
        torch.manual_seed(0)
        model = builders.mst(backbone={**builders.VIT, **parts}, masker=dict(type='RandomMasker', ratio=0.3))
        compile_parts(model, settings)
        model.set_progress(first_step())
        builders.total(model.loss(builders.views(batch=2))).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
        torch.compiler.set_stance('default')
    for name, expected in gradients[0].items():
        found, largest = gradients[1][name], max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * largest, msg=name)
    tables = [one for name, one in gradients[1].items() if name.endswith('bias_table')]
    assert len(tables) == (1 if relative == 'shared' else 3) and all(one.any() for one in tables)


@pytest.mark.parametrize('settings, wanted', [(None, False), (False, False), (True, True), ({}, True), (TRACED, True)])
def test_asked_for(settings, wanted):
    assert wants_compiling(settings) == wanted
    if not wanted:
        model = builders.mst()
        assert compile_parts(model, settings) == ''


def test_mistakes_are_named_before_anything_runs(monkeypatch):
    model = builders.mst()
    with pytest.raises(UsageError, match=r"compile is True, False or a dict .*, not 'yes'"):
        check_compiling(model, 'yes')
    with pytest.raises(UsageError, match=r"compile\.backend is 'inductr'; torch has .*inductor"):
        check_compiling(model, dict(backend='inductr'))
    with pytest.raises(UsageError, match='Linear has no part that can be compiled'):
        check_compiling(nn.Linear(2, 2), True)
    monkeypatch.setattr(shutil, 'which', lambda name: None)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(UsageError, match=r'C\+\+ compiler on a CPU'):
        check_compiling(model, True)
    check_compiling(model, TRACED)
    check_compiling(model, False)


def test_a_run_says_what_it_compiles_and_its_checkpoint_has_the_same_names(tmp_path):
    shapes = {}
    run = {name: value for name, value in RUN.items() if name != 'default_hooks__checkpoint'}
    for name, settings in dict(plain=None, compiled=TRACED).items():
        running.train(tmp_path / name, **run, log_level='INFO', compile=settings)
        (text,) = (path.read_text() for path in (tmp_path / name).glob('*/*.log'))
        assert ('compiled: 4 x EncoderLayer; the first steps take longer' in text) == (name == 'compiled')
        state = torch.load(tmp_path / name / 'epoch_3.pth', weights_only=True)['state_dict']
        shapes[name] = {key: value.shape for key, value in state.items()}
    assert list(shapes['plain'].items()) == list(shapes['compiled'].items())


def test_a_run_without_anything_to_compile_leaves_nothing(tmp_path):
    with pytest.raises(UsageError, match='has no part that can be compiled; leave compile out'):
        running.train(tmp_path / 'run', compile=True)
    assert not (tmp_path / 'run').exists()
