from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from mmengine.config import Config

from mstkit.errors import exit_cleanly
from mstkit.evaluation import EvaluatedNetwork, labeled_folder
from mstkit.evaluation.evaluators.backgrounds import BackgroundsEvaluator
from mstkit.evaluation.evaluators.linear import LinearEvaluator
from mstkit.networks import open_networks
from mstkit.registry import MODELS
from tests.programs import load_program

from .frozen import write_images

FOLDERS = ('00_blue', '01_green', '02_red')
BACKBONE = dict(
    type='MaskedVisionTransformer',
    arch=dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48),
    img_size=32,
    patch_size=8,
)
PREPROCESSOR = dict(type='SelfSupDataPreprocessor', mean=[120.0] * 3, std=[60.0] * 3)


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load_program('tools/evaluation/backgrounds.py')


@pytest.fixture(scope='module')
def files(tmp_path_factory) -> Path:
    """Variants, a checkpoint with two branches, and a head of its student."""
    root = tmp_path_factory.mktemp('files')
    for seed, variant in enumerate(('mixed_same', 'mixed_rand', 'fg_mask')):
        write_images(root / 'data' / variant / 'val', dict.fromkeys(FOLDERS, 3), seed)
    write_images(root / 'train', dict.fromkeys(FOLDERS, 5), seed=9)
    torch.manual_seed(0)
    state = {}
    for prefix in ('backbone.', 'teacher.backbone.'):
        backbone = MODELS.build(BACKBONE)
        for parameter in backbone.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        state.update({prefix + key: value for key, value in backbone.state_dict().items()})
    config = Config(dict(model=dict(backbone=BACKBONE, data_preprocessor=PREPROCESSOR)))
    torch.save({'meta': {'cfg': config.pretty_text}, 'state_dict': state}, root / 'epoch_1.pth')
    (student,) = open_networks(str(root / 'epoch_1.pth'), 'student')
    images = labeled_folder(root / 'train')
    evaluated = EvaluatedNetwork(student, images, images, num_workers=0)
    LinearEvaluator(features='last', epochs=5, save=str(root / 'head.pth'))(evaluated)
    return root


def run(tool: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, 'argv', ['backgrounds.py', *map(str, arguments), '--num-workers', '0', '--device', 'cpu'])
    try:
        exit_cleanly(tool.main)()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_numbers_of_the_branch_that_the_head_belongs_to(tool, files: Path, tmp_path, monkeypatch, capsys) -> None:
    out = tmp_path / 'new' / 'backgrounds.json'
    arguments = (files / 'epoch_1.pth', '--head', files / 'head.pth', '--data', files / 'data', '--json', out)
    assert run(tool, monkeypatch, *arguments) == 0
    printed = capsys.readouterr().out
    content = json.loads(out.read_text())
    (student,) = open_networks(str(files / 'epoch_1.pth'), 'student')
    images = labeled_folder(files / 'train')
    evaluated = EvaluatedNetwork(student, images, images, num_workers=0)
    expected = BackgroundsEvaluator(files / 'head.pth', files / 'data')(evaluated)
    assert content['metrics'] == pytest.approx(expected)
    assert content['missing'] == ['original', 'mixed_next', 'only_fg', 'no_fg', 'only_bg_b', 'only_bg_t']
    lines = printed.splitlines()
    assert lines[0].endswith('head head.pth of 3 classes')
    assert lines[1].split() == ['mixed_same', f'{expected["backgrounds_mixed_same_top1"]:.2f}']
    assert lines[3].split() == ['gap', '(mixed_same', '-', 'mixed_rand)', f'{expected["backgrounds_gap"]:.2f}']
    assert lines[4].startswith('not in ') and lines[4].endswith(
        'original, mixed_next, only_fg, no_fg, only_bg_b, only_bg_t'
    )


def test_mistakes_exit_with_2_and_one_sentence(tool, files: Path, tmp_path, monkeypatch, capsys) -> None:
    source, data = files / 'epoch_1.pth', ('--data', files / 'data')
    head = ('--head', files / 'head.pth')
    short = tmp_path / 'in_to_in9.json'
    short.write_text(json.dumps({str(index): index % 9 for index in range(1000)}))
    for arguments, says in (
        ((source, *data, '--head', files / 'none.pth'), 'does not exist'),
        ((source, *data, '--head', source), 'no linear head'),
        ((source, *head, '--data', files / 'none'), 'does not exist'),
        ((source, *head, *data, '--branch', 'teacher'), 'was trained on'),
        ((source, *head, *data, '--class-map', tmp_path / 'none.json'), 'does not exist'),
        ((source, *head, *data, '--class-map', short), 'names 1000 classes and the head has 3'),
        ((source, *head, *data, '--variants', 'mixed_sam'), 'Did you mean mixed_same'),
        ((source, *head, '--data', files), 'none of the 3 classes'),
    ):
        assert run(tool, monkeypatch, *arguments) == 2, arguments
        message = capsys.readouterr().err.strip().splitlines()[-1]
        assert message.startswith('error: ') and says in message, message
