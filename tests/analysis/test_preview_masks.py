from __future__ import annotations

import csv
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mstkit.engine.launch.launch import read_config
from mstkit.errors import exit_cleanly
from mstkit.registry import MODELS
from tests.programs import load_program

from ..models.builders import SWIN, VIT

ROOT = Path(__file__).parents[2]
CONFIG = """
model = dict(
    type='MSTAlgorithm',
    backbone={backbone},
    data_preprocessor=dict(type='SelfSupDataPreprocessor', mean=[120.0] * 3, std=[60.0] * 3),
    masker={masker},
)
pipeline = [dict(type='CenterView', resize={resize}, crop={crop}), dict(type='PackViews')]
default_hooks = dict(knn=dict(type='KNNHook', val_dataset=dict(type='ImageFolder', pipeline=pipeline)))
"""
CHOICES = read_config(ROOT / 'configs' / '_base_' / 'ablation_choices.py')['choices']['model.masker']
# MST's encoder has a token in every place, so nothing is thrown there.
NAMES = [name for name, masker in CHOICES.items() if masker is not None and masker['type'] != 'ThrowingMasker']
MST = "dict(type='AttentionGuidedMasker', num=8, prob=0.10)"


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load_program('tools/analysis/preview_masks.py')


@pytest.fixture(scope='module')
def image_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('images')
    generator = np.random.default_rng(0)
    (folder / 'deep').mkdir()
    for index in range(12):
        pixels = generator.integers(0, 255, (50, 60, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / ('deep' if index % 2 else '.') / f'{index}.png')
    return folder


def write_config(folder: Path, masker: str = MST, backbone: dict = VIT, size: int = 64) -> Path:
    path = folder / 'some_config.py'
    path.write_text(CONFIG.format(backbone=backbone, masker=masker, resize=size + 8, crop=size))
    return path


@pytest.fixture
def run(tool, tmp_path, monkeypatch, capsys):
    """Runs the tool with its files in ``tmp_path/out``; gives what it printed."""

    def call(*arguments: object, expect: int = 0) -> str:
        out = [] if '--out' in arguments else ['--out', str(tmp_path / 'out')]
        code = 0
        monkeypatch.setattr(sys, 'argv', ['preview_masks.py', *map(str, arguments), *out])
        try:
            exit_cleanly(tool.main)()
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = capsys.readouterr()
        assert code == expect, said
        return said.out if expect == 0 else said.err.strip().splitlines()[-1]

    return call


def table_in(folder: Path) -> dict[str, dict[str, str]]:
    with open(folder / 'out' / 'masks.csv', newline='') as file:
        return {row['strategy']: row for row in csv.DictReader(file)}


def save_checkpoint(path: Path, prefixes: tuple[str, ...] = ('backbone.', 'teacher.backbone.')) -> None:
    state = {}
    torch.manual_seed(1)
    for prefix in prefixes:
        backbone = MODELS.build(VIT)
        for parameter in backbone.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        state.update({prefix + key: value for key, value in backbone.state_dict().items()})
    torch.save({'meta': {}, 'state_dict': state}, path)


def test_all_strategies_with_a_checkpoint(run, image_dir, tmp_path):
    save_checkpoint(tmp_path / 'some.pth')
    arguments = (write_config(tmp_path), '--images', image_dir, '--checkpoint', tmp_path / 'some.pth')
    printed = run(*arguments)
    rows = table_in(tmp_path)
    assert list(rows) == NAMES
    assert all(row['masks'] == '48' for row in rows.values())
    assert 'mst is its own masker' in printed
    assert 'throwing is left out: MSTAlgorithm: masker ThrowingMasker throws patches' in printed
    assert 'teacher: loaded' in printed and 'NO CHECKPOINT' not in printed
    assert float(rows['attmask-high']['top_attention']) == 1
    assert float(rows['attmask-low']['top_attention']) == float(rows['mst']['top_attention']) == 0
    page = (tmp_path / 'out' / 'masks.md').read_text()
    table = '\n'.join(line for line in printed.splitlines() if line.startswith('|'))
    assert table in page and '(masks.png)' in page
    with Image.open(tmp_path / 'out' / 'masks.png') as sheet:
        assert sheet.size[0] == 6 + (2 + len(NAMES)) * (128 + 6)
        assert sheet.size[1] > 8 * 128
        first = np.asarray(sheet)
    files = {file.name: file.read_bytes() for file in (tmp_path / 'out').iterdir()}
    assert set(files) == {'masks.png', 'masks.md', 'masks.csv'}
    # The same again is the same; the student sees otherwise.
    run(*arguments)
    assert {file.name: file.read_bytes() for file in (tmp_path / 'out').iterdir()} == files
    run(*arguments, '--branch', 'student')
    with Image.open(tmp_path / 'out' / 'masks.png') as sheet:
        assert not np.array_equal(np.asarray(sheet), first)
    assert table_in(tmp_path)['mst'] != rows['mst']
    assert table_in(tmp_path)['random']['hidden'] == rows['random']['hidden']


def test_a_checkpoint_without_teacher_shows_its_student(run, image_dir, tmp_path):
    """MAE's, for example."""
    save_checkpoint(tmp_path / 'some.pth', ('backbone.',))
    arguments = ('--images', image_dir, '--checkpoint', tmp_path / 'some.pth', '--strategies', 'attmask-high')
    printed = run(write_config(tmp_path), *arguments)
    assert 'student: loaded' in printed and 'Attention: student of' in printed


MAE = """
model = dict(
    type='MAE',
    backbone={backbone},
    decoder=dict(type='ViTDecoder', embed_dims=16, num_layers=1, num_heads=2),
    masker=dict(type='RandomMasker', ratio=0.75),
)
pipeline = [dict(type='CenterView', resize=72, crop=64), dict(type='PackViews')]
default_hooks = dict(knn=dict(type='KNNHook', val_dataset=dict(type='ImageFolder', pipeline=pipeline)))
"""


def write_mae(folder: Path, more: str = '') -> Path:
    path = folder / 'mae.py'
    path.write_text(MAE.format(backbone=VIT) + more)
    return path


def test_scores_are_those_of_the_guide_that_trains(run, image_dir, tmp_path):
    """MAE has no class token to trust: its patches are ranked by the attention received from all, or as it is told."""
    save_checkpoint(tmp_path / 'some.pth', ('backbone.',))
    config, rows, said = write_mae(tmp_path), {}, {}
    arguments = ('--images', image_dir, '--checkpoint', tmp_path / 'some.pth', '--strategies', 'random,throwing')
    guides = {'own': (), 'received': ('model.guide.type=ema', 'model.guide.score=received')}
    guides['class_token'] = ('model.guide.type=cached', 'model.guide.score=class_token')
    for name, options in guides.items():
        said[name] = run(config, *arguments, *(('--cfg-options', *options) if options else ()))
        rows[name] = table_in(tmp_path)
    assert (
        'received from all patches, student of' in said['own']
        and 'received' not in said['class_token'].split('\n\n')[0]
    )
    assert rows['own'] == rows['received'] != rows['class_token']
    assert rows['own']['random']['hidden'] == rows['class_token']['random']['hidden']
    assert float(rows['own']['throwing']['hidden']) == pytest.approx(int(0.45 * 64) / 64)
    assert float(rows['own']['throwing']['thrown']) == pytest.approx((int(0.85 * 64) - int(0.45 * 64)) / 64)
    assert '| thrown |' in said['own'] and 'nearly black' not in said['own']


def test_predicted_losses_as_scores(run, image_dir, tmp_path):
    """Of hard patches mining: those of the teacher's predictor, which the checkpoint holds."""
    more = """
model.update(
    guide='predicted_loss',
    masker=dict(type='TopShareMasker', ratio=0.5, start=1.0, end=1.0),
    objectives=dict(rank=dict(type='LossPrediction', decoder=dict(embed_dims=16, num_layers=1, num_heads=2))),
)
"""
    config = write_mae(tmp_path, more)
    model = MODELS.build(Config.fromfile(config).model)
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    torch.save({'meta': {}, 'state_dict': model.state_dict()}, tmp_path / 'hard.pth')
    arguments = (config, '--images', image_dir, '--checkpoint', tmp_path / 'hard.pth', '--strategies', 'config,random')
    printed = run(*arguments)
    assert 'the loss of each patch that the teacher of' in printed
    assert float(table_in(tmp_path)['config']['top_attention']) == 1
    files = {file.name: file.read_bytes() for file in (tmp_path / 'out').iterdir()}
    state = dict(reversed(model.state_dict().items()))  # the student's names are the teacher's without a prefix
    torch.save({'meta': {}, 'state_dict': state}, tmp_path / 'hard.pth')
    run(*arguments)
    assert {file.name: file.read_bytes() for file in (tmp_path / 'out').iterdir()} == files
    assert 'scores of PredictedLossGuide are the teacher' in run(*arguments, '--branch', 'student', expect=2)
    save_checkpoint(tmp_path / 'some.pth')
    assert 'teacher: only' in run(*arguments[:4], tmp_path / 'some.pth', '--strategies', 'config', expect=2)


def test_generated_masks_as_scores(run, image_dir, tmp_path):
    """Those of the generator in the checkpoint, not the attention that it gets."""
    more = """
model.update(
    guide=dict(type='generated', source='ema'),
    masker=dict(type='PreferenceMasker', ratio=0.75, preference=1.0),
    objectives=dict(generate=dict(type='MaskGeneration')),
)
"""
    config = write_mae(tmp_path, more)
    model = MODELS.build(Config.fromfile(config).model)
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    torch.save({'meta': {}, 'state_dict': model.state_dict()}, tmp_path / 'made.pth')
    arguments = (config, '--images', image_dir, '--checkpoint', tmp_path / 'made.pth', '--strategies', 'config,random')
    printed = run(*arguments)
    assert 'what GeneratedMaskGuide makes of it' in printed and 'loaded' in printed
    made = table_in(tmp_path)
    assert float(made['config']['top_attention']) == 1
    state = dict(model.state_dict())
    last = 'objectives.generate.generator.layers.2.weight'
    torch.save({'meta': {}, 'state_dict': {**state, last: -state[last]}}, tmp_path / 'made.pth')
    run(*arguments)
    assert (
        table_in(tmp_path)['config'] != made['config']
        and table_in(tmp_path)['random']['hidden'] == made['random']['hidden']
    )
    assert 'GeneratedMaskGuide needs the whole method' in run(*arguments, '--branch', 'teacher', expect=2)
    save_checkpoint(tmp_path / 'some.pth')
    assert 'MAE: only' in run(*arguments[:4], tmp_path / 'some.pth', '--strategies', 'config', expect=2)


def test_a_frozen_guide_needs_no_checkpoint(run, image_dir, tmp_path):
    save_checkpoint(tmp_path / 'some.pth')
    other = write_config(tmp_path)
    frozen = ('model.guide.type=frozen', f'model.guide.source=random:{other}')
    printed = run(write_mae(tmp_path), '--images', image_dir, '--strategies', 'attmask-high', '--cfg-options', *frozen)
    assert f'Attention: random:{other}, mean over heads' in printed and 'NO CHECKPOINT' not in printed


def test_some_strategies_and_the_own_masker_without_a_checkpoint(run, image_dir, tmp_path):
    masker = "dict(type='RandomMasker', ratio=0.5)"
    config = write_config(tmp_path, masker)
    printed = run(config, '--images', image_dir, '--strategies', 'block,config', '--draws', 1, '--max-images', 5)
    assert 'NO CHECKPOINT WAS GIVEN' in printed and 'own masker' not in printed
    rows = table_in(tmp_path)
    assert list(rows) == ['block', 'config']
    assert rows['config']['hidden'] == '0.5'
    assert rows['config']['masks'] == '5'
    assert 'NO CHECKPOINT WAS GIVEN' in (tmp_path / 'out' / 'masks.md').read_text()
    run(config, '--images', image_dir, '--strategies', 'config', '--cfg-options', 'model.masker.ratio=0.25')
    assert table_in(tmp_path)['config']['hidden'] == '0.25'


def test_an_own_masker_by_another_block_and_by_the_epoch(run, image_dir, tmp_path):
    masker = "dict(type='MaskerSchedule', phases=[(0, None), (2, dict(type='AttMaskHigh', layer=-2, ratio=0.3))])"
    arguments = (write_config(tmp_path, masker), '--images', image_dir, '--strategies', 'config,mst', '--num-images', 2)
    run(*arguments)
    assert (table_in(tmp_path)['config']['whole'], table_in(tmp_path)['config']['hidden']) == ('1.0', '')
    with Image.open(tmp_path / 'out' / 'masks.png') as sheet:
        width = sheet.size[0]
    run(*arguments, '--epoch', 2)
    assert float(table_in(tmp_path)['config']['top_attention']) == 1, 'by its own block'
    with Image.open(tmp_path / 'out' / 'masks.png') as sheet:
        assert sheet.size[0] == width + 128 + 6, 'the attention of each block that guides has a column'


def test_swin_and_its_coarse_grid(run, image_dir, tmp_path):
    config = write_config(tmp_path, backbone=SWIN, size=224)
    run(config, '--images', image_dir, '--max-images', 3, '--draws', 2)
    rows = table_in(tmp_path)
    assert list(rows) == NAMES
    hidden = 49 * 6 * float(rows['attmask-high']['hidden_overall'])
    assert hidden == pytest.approx(round(hidden), abs=1e-3), 'whole cells of the 7x7 of each mask'


def test_a_strategy_that_does_not_fit_is_left_out_unless_it_was_asked_for(run, image_dir, tmp_path):
    config = write_config(tmp_path, size=32)  # 16 patches
    printed = run(config, '--images', image_dir, '--max-images', 2)
    assert 'attmask-hint is left out: AttMaskHint: show_max=0.1' in printed
    assert 'attmask-high' in table_in(tmp_path) and 'attmask-hint' not in table_in(tmp_path)
    said = run(config, '--images', image_dir, '--strategies', 'mst,attmask-hint', expect=2)
    assert 'show_max=0.1' in said


def test_unreadable_files_are_counted_and_named(run, image_dir, tmp_path):
    folder = tmp_path / 'damaged'
    folder.mkdir()
    Image.new('RGB', (80, 80), (200, 0, 0)).save(folder / 'good.png')
    (folder / 'bad.jpg').write_bytes(b'no image')
    printed = run(write_config(tmp_path), '--images', folder, '--strategies', 'random')
    assert '1 files cannot be read: bad.jpg (it is not in an image format' in printed
    assert '1 images of' in printed
    assert 'bad.jpg' in (tmp_path / 'out' / 'masks.md').read_text()


def test_mistakes_exit_with_2_and_one_sentence(run, image_dir, tmp_path):
    config, images = write_config(tmp_path), ('--images', image_dir)
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'no_model.py').write_text('x = 1')
    (tmp_path / 'wrong.py').write_text(config.read_text().replace('num=8', 'nmu=8'))
    (tmp_path / 'no_tokens.py').write_text("model = dict(backbone=dict(type='ResNet', depth=18))")
    (tmp_path / 'file').write_text('')
    cases = [
        ((tmp_path / 'none.py', *images), 'there is no config file'),
        ((tmp_path / 'no_model.py', *images), 'no model.backbone'),
        ((tmp_path / 'wrong.py', *images), "no argument 'nmu'"),
        ((tmp_path / 'no_tokens.py', *images), 'ResNet gives no attention'),
        ((config, *images, '--strategies', 'attmask-hihg'), 'Did you mean attmask-high'),
        ((config, *images, '--checkpoint', tmp_path / 'none.pth'), 'does not exist'),
        ((config, '--images', tmp_path / 'nowhere'), 'does not exist'),
        ((config, '--images', tmp_path / 'empty'), 'holds no images'),
        ((config, *images, '--draws', 0), '--draws is 0'),
        ((config, *images, '--num-images', -1), '--num-images is -1'),
        ((config, *images, '--cfg-options', 'modle.masker.num=4'), 'Did you mean model'),
        ((config, *images, '--out', tmp_path / 'file'), 'cannot be written'),
    ]
    for arguments, says in cases:
        message = run(*arguments, expect=2)
        assert message.startswith('error: ') and says in message, (arguments, message)
    assert not (tmp_path / 'out').exists()


def test_squares_that_are_hidden_as_one(run, image_dir, tmp_path):
    """Of 64 patches int(0.72 * 64) are hidden, of their 16 squares int(0.72 * 16)."""
    path = write_mae(tmp_path, 'model["masker"]["ratio"] = 0.72\n')
    text = path.read_text()
    run(path, '--images', image_dir, '--strategies', 'config')
    single = table_in(tmp_path)['config']
    path.write_text(text + 'model["mask_patch_size"] = 16\n')
    run(path, '--images', image_dir, '--strategies', 'config')
    squares = table_in(tmp_path)['config']
    assert float(single['hidden']) == pytest.approx(46 / 64)
    assert float(squares['hidden']) == pytest.approx(11 / 16)
    path.write_text(text + 'model["mask_patch_size"] = 12\n')
    assert 'mask_patch_size is 12' in run(path, '--images', image_dir, expect=2)
