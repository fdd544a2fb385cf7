"""What benchmarks/communication.py counts, against arithmetic on paper."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import pytest
import torch
from mmengine.config import Config
from mmpretrain.models import VisionTransformer

from tests.docs.pages import ROOT, rows
from tests.programs import load_program

CONFIG = """
model = dict(
    type='DINO',
    backbone=dict(type='MaskedVisionTransformer', arch='deit-small', img_size=32, patch_size=8),
    neck=dict(type='DINONeck', out_dim=64, hidden_dim=32, bottleneck_dim=16, batch_norm='all'),
    head=dict(type='DINOHead'),
    data_preprocessor=dict(type='SelfSupDataPreprocessor', mean=[0.0] * 3, std=[1.0] * 3),
)
crops = dict(global_crops=dict(size=32), local_crops=dict(size=16, count=1))
train_dataloader = dict(dataset=dict(pipeline=[dict(type='MultiCrop', **crops)]))
"""
TINY = dict(embed_dims=48, num_layers=3, num_heads=3, feedforward_channels=96)
NECK = 48 * 32 + 32 * 32 + 32 * 16 + 16 * 64


@pytest.fixture
def benchmark() -> ModuleType:
    return load_program('benchmarks/communication.py')


@pytest.fixture
def config(tmp_path) -> Config:
    path = tmp_path / 'tiny.py'
    path.write_text(CONFIG.replace("'deit-small'", repr(TINY)))
    return Config.fromfile(path)


def operations_of(side: int) -> tuple[int, int]:
    """Of the tiny network on one view: the patch embedding, and all after it. Of the last layer one token is read."""
    patches = (side // 8) ** 2
    tokens = patches + 1
    embedding = 2 * patches * 3 * 64 * 48
    layer = 2 * tokens * 48 * (4 * 48 + 2 * 96) + 2 * 2 * tokens * tokens * 48
    last = 2 * 48 * (2 * 48 + 2 * 96) + 2 * tokens * 48 * 2 * 48 + 2 * 2 * tokens * 48
    return embedding, 2 * layer + last + 2 * NECK


def test_operations_are_those_of_the_matrix_products(benchmark, config):
    found = benchmark.count_operations(config, TINY)
    (embed, rest), (small_embed, small_rest) = operations_of(32), operations_of(16)
    assert found['teacher'] == 2 * (embed + rest)
    assert found['student_forward'] == 2 * (embed + rest) + small_embed + small_rest
    # A product for the input and one for the weight, but none for the images; fused attention may multiply once more.
    backward = 2 * found['student_forward'] - 2 * embed - small_embed
    assert backward <= found['student_backward'] < 1.03 * backward
    assert found['step'] == found['teacher'] + found['student_forward'] + found['student_backward']


def test_the_page_says_what_is_counted(benchmark):
    row = next(row for row in rows('scaling.md', 'backbone') if row[0] == 'ViT-S/16')
    config = Config.fromfile(ROOT / 'configs' / 'dino' / 'dino_vit-s_100e.py')
    found = benchmark.count_operations(config, 'deit-small')
    for cell, name in zip(row[1:5], ('teacher', 'student_forward', 'student_backward', 'step'), strict=True):
        assert float(cell) == pytest.approx(found[name] / 1e9, rel=0.05), name
    parameters, gradients = float(row[5].removesuffix(' M')), float(row[6].removesuffix(' MB'))
    assert gradients == pytest.approx(4 * parameters, rel=0.01)


def test_bytes_are_those_of_the_tensors(benchmark, config):
    with benchmark.silent_group():
        found = benchmark.count_bytes(config, TINY)
        sharded = benchmark.count_sharded_bytes(config, TINY)
    assert found['gradients'] == 4 * found['parameters'] and found['buckets'] >= 1
    model = benchmark.built(config, TINY)
    assert found['parameters'] == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert found['centers'] == 4 * (64 + 1)
    assert found['logged'] == 4 * 2  # the loss and its only term
    # Two layers of 32: all views of the student at once, with gradients, and those of the teacher without.
    assert found['batch_norm'] == 2 * (4 * (2 * 32 + 1 + 2 * 32) + 4 * (2 * 32 + 1))
    assert sharded['scattered'] >= found['gradients']
    # Gathered: the student for each kind of view and for the backward pass, the teacher once.
    assert 2 * found['gradients'] < sharded['gathered'] < 6 * found['gradients']
    assert not torch.distributed.is_initialized()


def test_the_expectation_is_arithmetic(benchmark):
    given = benchmark.Assumptions(images=10, peak=100.0, mfu=0.5, inside=8.0, between=4.0, latency=0.0)
    operations = dict(step=30.0, student_backward=20.0)
    sizes = dict(gradients=16.0, buckets=2.0, centers=0.0, logged=0.0, batch_norm=0.0, exchanges=2.0)
    eight = benchmark.expect(operations, sizes, 8, given)
    assert eight['compute'] == pytest.approx(6.0) and eight['gradients'] == pytest.approx(2 * 7 / 8 * 16 / 8)
    assert eight['waiting'] == pytest.approx(eight['gradients'] / 2)  # the last of two buckets
    assert eight['efficiency'] == pytest.approx(6 / (6 + eight['waiting']))
    slow = benchmark.Assumptions(images=10, peak=100.0, mfu=0.5, inside=8.0, between=4.0 / 3, latency=0.0)
    many = benchmark.expect(operations, sizes, 64, slow)
    assert many['waiting'] == pytest.approx(2 * 63 / 64 * 16 / (4 / 3) - 4.0)  # what the backward pass does not cover
    at = benchmark.Assumptions(10, 100.0, 0.5, 8.0, many['least_bandwidth'], 0.0)
    assert benchmark.expect(operations, {**sizes, 'buckets': 1e9}, 64, at)['efficiency'] == pytest.approx(0.9)


def test_it_prints_lines_and_json(benchmark, config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        benchmark,
        'count_bytes',
        lambda *_: dict.fromkeys(
            ('gradients', 'buckets', 'centers', 'logged', 'exchanges', 'batch_norm', 'parameters'), 1e6
        ),
    )
    monkeypatch.setattr(benchmark, 'count_sharded_bytes', lambda *_: dict(gathered=1e6, exchanges=3))
    shallow = {**VisionTransformer.arch_zoo['deit-tiny'], 'num_layers': 2}
    monkeypatch.setitem(VisionTransformer.arch_zoo, 'deit-tiny', shallow)
    config.dump(tmp_path / 'c.py')
    words = [str(tmp_path / 'c.py'), '--arch', 'deit-tiny', '--json', str(tmp_path / 'out.json')]
    monkeypatch.setattr(sys, 'argv', ['communication.py', *words])
    benchmark.main()
    lines = capsys.readouterr().out.splitlines()
    found = json.loads(lines[-1])
    assert json.loads((tmp_path / 'out.json').read_text()) == found
    assert any(line.startswith('expected, not measured, from') for line in lines)
    assert set(found['results']['deit-tiny']['expected']) == {'8', '64', '512'}
