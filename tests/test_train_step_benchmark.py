"""benchmarks/train_step.py counts matrix products and time as it says, and runs."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from . import warm
from .programs import Finished, run_program

BENCHMARKS = Path(__file__).parents[1] / 'benchmarks'
SMALL = (
    'model.backbone.arch.embed_dims=24',
    'model.backbone.arch.num_layers=2',
    'model.backbone.arch.feedforward_channels=48',
)


@pytest.fixture(autouse=True)
def path(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)


def counted(work) -> float:
    from contest.gemm_bound import Products, operations

    with Products() as products:
        work()
    return operations(products.found)


def test_products_of_a_layer_and_its_gradients():
    layer, x = nn.Linear(7, 5), torch.randn(3, 11, 7, requires_grad=True)
    assert counted(lambda: layer(x).sum().backward()) == 3 * 2 * 33 * 7 * 5


def test_products_of_attention():
    query, key, value = (torch.randn(2, 3, 10, 8, requires_grad=True) for _ in range(3))
    one = 2 * 2 * 3 * 10 * 10 * 8
    assert counted(lambda: F.scaled_dot_product_attention(query, key, value).sum().backward()) == (2 + 4) * one


def test_products_of_a_convolution():
    layer, x = nn.Conv2d(3, 6, 4, stride=4), torch.randn(2, 3, 16, 16)
    one = 2 * (2 * 4 * 4) * (3 * 4 * 4) * 6
    assert counted(lambda: layer(x)) == one
    assert counted(lambda: layer(x).sum().backward()) == 2 * one  # the image takes no gradient


def test_products_that_are_added_in_place():
    left, right = torch.randn(3, 4), torch.randn(4, 5)
    assert counted(lambda: torch.zeros(3, 5).addmm_(left, right)) == 2 * 3 * 4 * 5
    assert counted(lambda: torch.zeros(2, 3, 5).baddbmm_(left.expand(2, 3, 4), right.expand(2, 4, 5))) == 4 * 3 * 4 * 5


def test_products_of_our_decoder_are_those_of_its_convolutions(monkeypatch):
    from mstkit.models import CNNImageDecoder
    from mstkit.models.decoders import normed_conv

    decoder, x = CNNImageDecoder(8, stride=4, channels=6), torch.randn(4, 8, 3, 3, requires_grad=True)
    found = []
    for wide in (1, 100):  # by products, and by the library
        monkeypatch.setattr(normed_conv, 'WIDE', wide)
        found.append(counted(lambda: decoder(x, 2).sum().backward()))
    ours, torchs = found
    # A map with a border is a matrix with more rows: of the maps of 6 and 3 px here (8 x 8 - 18 rows instead of 36, …).
    assert torchs < ours < 1.4 * torchs


def test_the_bound_is_the_time_of_the_products():
    from contest.gemm_bound import Products, seconds_of

    left, right = torch.randn(300, 400), torch.randn(400, 500)
    with Products() as products:
        for _ in range(3):
            torch.mm(left, right)
    assert list(products.found.values()) == [3]
    (key,) = products.found
    assert 0 < seconds_of({key: 1}, torch.device('cpu')) < 1


def test_a_clock_books_inner_phases_once():
    from contest.clock import Clock

    class Worker:
        def outer(self):
            time.sleep(0.03)
            self.inner()

        def inner(self):
            time.sleep(0.05)

    clock, worker = Clock(torch.device('cpu')), Worker()
    clock.wrap(worker, 'outer', 'a')
    clock.wrap(worker, 'inner', 'b')
    clock.wrap(worker, 'missing', 'c')
    worker.outer()
    assert set(clock.spent) == {'a', 'b'}
    assert clock.spent['a'] >= 0.03 and clock.spent['b'] >= 0.05
    assert clock.spent['a'] + clock.spent['b'] < 5


def run(*words: object) -> Finished:
    return run_program('benchmarks/train_step.py', *words)


def test_a_config_against_another(tmp_path, monkeypatch):
    monkeypatch.setattr('multiprocessing.spawn._python_exe', os.fsencode(warm.python()))  # of the two contestants
    out = tmp_path / 'out.json'
    words = ('--batch-size', 2, '--steps', 2, '--out-dim', 32, '--threads', 1, '--json', out)
    other = tmp_path / 'other.py'
    base = BENCHMARKS.parent / 'configs' / 'mst' / 'mst_vit-tiny_folder.py'
    arch = 'dict(embed_dims=24, num_layers=2, feedforward_channels=48, num_heads=3)'
    other.write_text(f'_base_ = {str(base)!r}\nmodel = dict(backbone=dict(arch={arch}))\n')
    done = run('configs/mst/mst_vit-tiny_folder.py', '--against', other, '--cfg-options', *SMALL, *words)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert json.loads(out.read_text()) == found
    ours, theirs = found['results']['ours'], found['results']['other']
    assert ours['images_per_second'] == pytest.approx(2 / ours['seconds'], rel=0.01)
    assert 0 < ours['bound_seconds'] < ours['seconds']
    wanted = {'data', 'teacher', 'masker', 'student', 'losses', 'backward', 'optimizer', 'EMA', 'other'}
    assert set(ours['phases']) == wanted
    assert all(seconds >= 0 for seconds in ours['phases'].values())
    assert ours['tflops'] * ours['seconds'] == pytest.approx(theirs['tflops'] * theirs['seconds'], rel=0.5)
    assert f'ours over other: {theirs["ours_faster"]:.2f} x images/s' in done.stdout


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (('--batch-size', 0), '--batch-size is 0'),
        (
            ('--against', 'dino'),
            '--against dino: give lightly-dino, lightly-ibot, lightly-mae, mmpretrain-mae, none, or the file of a ',
        ),
    ],
)
def test_mistakes(words, message):
    done = run('configs/mst/mst_vit-tiny_folder.py', *words)
    assert done.returncode == 2
    assert message in done.stderr and 'Traceback' not in done.stderr


@pytest.mark.parametrize('kind', ['LightlyMAE', 'MMPretrainMAE'])
def test_peers_of_mae_do_the_same_work(kind):
    """As many weights as ours, and as many operations but for the last layer, which lightly asks of hidden patches."""
    pytest.importorskip('lightly')
    from contest import mae_steps
    from contest.gemm_bound import Products, operations
    from contest.our_step import OurStep

    common = dict(batch=1, device='cpu', dtype='float32', out_dim=8)
    theirs = getattr(mae_steps, kind)([224], **common)
    config = BENCHMARKS.parent / 'configs' / 'mae' / 'mae_vit-b_800e.py'
    ours = OurStep(str(config), {'model.backbone.arch': 'deit-small'}, **common)
    counts = [sum(p.numel() for p in step.model.parameters() if p.requires_grad) for step in (ours, theirs)]
    assert counts[0] == counts[1]
    amounts, weight = [], next(p for p in theirs.model.parameters() if p.requires_grad)
    before = weight.detach().clone()
    for step in (ours, theirs):
        with Products() as products:
            step()
        amounts.append(operations(products.found))
    assert amounts[0] == pytest.approx(amounts[1], rel=0.01)
    assert not torch.equal(weight, before)


@pytest.mark.parametrize('kind', ['LightlyDINO', 'LightlyIBOT'])
def test_peers_learn(kind):
    """One step moves the student and, by the moving average, the teacher."""
    pytest.importorskip('lightly')
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        from contest import lightly_step

        step = getattr(lightly_step, kind)([224, 224, 32], 1, 'cpu', 'float32', 16)
        weights = [next(part.parameters()).clone() for part in (step.student, step.teacher)]
        step()
        moved = [next(part.parameters()) for part in (step.student, step.teacher)]
    for before, after in zip(weights, moved, strict=True):
        assert not torch.equal(before, after)
