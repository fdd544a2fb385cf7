"""``mstkit configs``, and how a config is found by its name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mstkit.commands import configs_command
from mstkit.commands.configs_command import DATA, read_configs
from mstkit.errors import UsageError
from mstkit.utils import shipped_files
from mstkit.utils.shipped_files import config_names, find_config, in_clone, shipped

from .programs import ROOT


def listed(monkeypatch, capsys, *words: str) -> str:
    monkeypatch.setattr(sys, 'argv', ['mstkit configs', *words])
    configs_command.main()
    return capsys.readouterr().out


def test_every_config_is_listed_with_a_sentence():
    configs = {one.name: one for one in read_configs()}
    files = {path for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts}
    assert {ROOT / 'configs' / f'{name}.py' for name in configs} == files
    for one in configs.values():
        assert len(one.sentence.split()) >= 4
        assert one.data in DATA
        assert one.command.startswith(f'mstkit train {one.name}')
    folder = configs['mst/mst_vit-tiny_folder']
    assert (folder.method, folder.backbone, folder.data) == ('mst', 'vit-tiny', 'folder')
    assert folder.command == 'mstkit train mst/mst_vit-tiny_folder --data-root DIR'
    detection = configs['downstream/mmdet/mask-rcnn_swin-t_fpn_1x_coco']
    assert (detection.method, detection.backbone, detection.data) == ('mmdet', 'swin-t', 'downstream')
    assert configs['attmask/attmask-high_vit-s_100e_20pct_dino'].data == 'imagenet'
    assert configs['demo/mst_vit-nano_scenes'].data == 'scenes'


def test_filters_leave_what_was_asked_for(monkeypatch, capsys):
    found = json.loads(listed(monkeypatch, capsys, '--method', 'MAE', '--data', 'folder', '--json'))
    assert {one['name'].partition('/')[0] for one in found} == {'mae'}
    assert 'mae/mae_vit-tiny_folder' in [one['name'] for one in found]
    assert all(Path(one['path']).is_file() for one in found)
    swins = json.loads(listed(monkeypatch, capsys, '--backbone', 'swin', '--json'))
    assert {one['backbone'].partition('-')[0] for one in swins} == {'swin'} and len(swins) > 5
    lines = listed(monkeypatch, capsys, 'hpm', 'imagenet').splitlines()
    assert lines[0].startswith('mae/mae-hpm_vit-b_800e  MAE with hard patches mining')
    assert lines[1].endswith('configs/mae/mae-hpm_vit-b_800e.py')
    assert lines[2:] == ['    mstkit train mae/mae-hpm_vit-b_800e']


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (('--method', 'simmin'), '--method simmin: no config is of it. Did you mean simmim'),
        (('--backbone', 'vgg'), '--backbone vgg: no config has it. There are deit-s, '),
        (('--method', 'msn', 'swin'), 'fits all of this; leave a word or an option out.'),
    ],
)
def test_what_is_not_there_is_said(words, said, monkeypatch, capsys):
    with pytest.raises(SystemExit) as caught:
        listed(monkeypatch, capsys, *words)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_no_torch_is_needed(tmp_path):
    code = 'import sys; from mstkit.commands.configs_command import read_configs; read_configs(); '
    code += 'print([name for name in ("torch", "mmengine", "numpy") if name in sys.modules])'
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == '[]\n', done.stderr


def test_a_config_is_found_by_path_and_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = ROOT / 'configs' / 'mst' / 'mst_vit-tiny_folder.py'
    for words in ('mst/mst_vit-tiny_folder', 'configs/mst/mst_vit-tiny_folder.py', 'mst/mst_vit-tiny_folder.py'):
        assert find_config(words) == file
    assert find_config(file) == file
    own = tmp_path / 'mst' / 'mst_vit-tiny_folder.py'
    own.parent.mkdir()
    own.touch()
    assert find_config('mst/mst_vit-tiny_folder.py') == Path('mst/mst_vit-tiny_folder.py'), "the user's file wins"
    monkeypatch.chdir(ROOT)
    assert find_config('mst/mst_vit-tiny_folder') == Path('configs/mst/mst_vit-tiny_folder.py')


@pytest.mark.parametrize(
    ('words', 'nearest'),
    [
        ('mst/mst_vit-tiny_foldr', 'Did you mean mst/mst_vit-tiny_folder'),
        ('simmim_vit-tiny_folder', 'Did you mean simmim/simmim_vit-tiny_folder?'),
        ('configs/mst/mae_vit-tiny_folder.py', 'Did you mean downstream/mmpretrain/mae_vit-tiny_folder or mae/mae_vit'),
        ('_base_/default_runtime', '"mstkit configs" lists those that come with mstkit'),
    ],
)
def test_the_nearest_names_are_told(words, nearest):
    with pytest.raises(UsageError, match=f'there is no config file {words}') as caught:
        find_config(words)
    assert nearest in str(caught.value)
    assert str(caught.value).endswith('"mstkit configs" lists those that come with mstkit.')


def test_installed_files_lie_in_the_package(tmp_path, monkeypatch):
    assert in_clone()
    assert shipped('tools/train.py') == ROOT / 'tools' / 'train.py'
    package = tmp_path / 'site' / 'mstkit'
    config = package / '.mim' / 'configs' / 'x' / 'y_vit-s_1e.py'
    config.parent.mkdir(parents=True)
    config.touch()
    monkeypatch.setattr(shipped_files, 'PACKAGE', package)
    assert not in_clone()
    assert shipped('tools/train.py') == package / '.mim' / 'tools' / 'train.py'
    assert config_names() == ['x/y_vit-s_1e']
    assert find_config('x/y_vit-s_1e') == config
