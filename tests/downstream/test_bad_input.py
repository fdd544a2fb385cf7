"""Mistakes of a downstream run on the command line: one message, exit code 2, and nothing left behind."""

from __future__ import annotations

import json
import logging
import os
import re
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from . import running
from .running import ARCH, CLASSIFICATION, DETECTION, PRETRAINING, ROOT, SEGMENTATION, WITHOUT_WORKERS, Task

ON_VAL = {  # the small task validates on the images that it was trained on
    'val_dataloader.dataset.ann_file': 'annotations/instances_val2017.json',
    'val_dataloader.dataset.data_prefix.img': 'val2017',
}


@pytest.fixture(scope='module')
def made(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp('made')


@pytest.fixture
def pretrained(made) -> Path:
    path = made / 'pretraining' / 'epoch_1.pth'
    return path if path.exists() else running.pretrain(path.parent)


@pytest.fixture
def scenes(made, tmp_path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(running.write_scenes(made / 'scenes'), tmp_path / 'scenes'))


@pytest.fixture
def refused(monkeypatch, capsys, tmp_path) -> Callable[..., str]:
    """Runs ``tools/train.py`` with a mistake; returns the message."""

    def refused(task: Task | Path, *arguments: Any, **options: Any) -> str:
        work_dir = tmp_path / 'run'
        command: list[Any] = [getattr(task, 'config', task), '--work-dir', work_dir, *arguments]
        if isinstance(task, Task):
            settings = {**ARCH, **WITHOUT_WORKERS, **task.options, **options}
            command += ['--cfg-options', *running.words(settings)]
        monkeypatch.setattr(logging, 'raiseExceptions', False)  # earlier tests' loggers write where nobody reads
        monkeypatch.setattr(sys, 'argv', ['tools/train.py', *map(str, command)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(ROOT / 'tools' / 'train.py'), run_name='__main__')
        lines = capsys.readouterr().err.splitlines()
        assert end.value.code == 2
        assert [line.startswith('error: ') for line in lines].count(True) == 1 and lines[-1].startswith('error: ')
        assert 'Traceback' not in '\n'.join(lines)
        assert not work_dir.exists()
        return lines[-1].removeprefix('error: ')

    return refused


class Attack:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


def write_attack(path: Path) -> None:
    torch.save({'state_dict': {'backbone.a': Attack(path.parent / 'executed')}}, path)


def write_state(path: Path, *names: str) -> None:
    torch.save({'state_dict': {name: torch.zeros(1) for name in names}}, path)


FILES = {
    'missing': (lambda path: None, r'does not exist; give the path of a \.pth file'),
    'a folder': (Path.mkdir, 'is a folder without'),
    'code': (write_attack, r'is refused: .*mkdir.* Nothing in it was executed'),
    'text': (lambda path: path.write_text('not a checkpoint'), 'is refused|is not a readable checkpoint'),
    'of others': (lambda path: torch.save({'model': {}}, path), r"holds no tensors by name \(found keys \['model'\]\)"),
    'no branch': (
        lambda path: write_state(path, 'encoder.a'),
        r"no student \(no key starts with 'backbone\.'; the keys start with \['encoder'\]\).*a branch that it has",
    ),
    'another network': (
        lambda path: write_state(path, 'backbone.conv1.weight', 'backbone.layer1.0.conv1.weight'),
        r'it holds tensors with other names \(layer1\.0\.conv1\.weight\), the backbone is a ViT of width 48',
    ),
}


@pytest.mark.parametrize('name', FILES)
def test_files_that_are_no_pretrained_backbone(refused, tmp_path, name):
    write, message = FILES[name]
    file = tmp_path / 'file.pth'
    write(file)
    said = refused(CLASSIFICATION, '--pretrained', file)
    assert str(file) in said and re.search(message, said), said
    assert not (tmp_path / 'executed').exists()


WIDE = {'model.backbone.arch.embed_dims': 96}
WIDE_HEADS = {f'model.{head}.in_channels': 96 for head in ('decode_head', 'auxiliary_head.0', 'auxiliary_head.1')}
WIDTHS = (
    r'a ViT of width 48, 3 blocks .*, the backbone is a ViT of width 96, 3 blocks .*'
    r'cls_token is \(1, 1, 48\) in the file and \(1, 1, 96\) in the backbone'
)
NETWORKS = [
    (CLASSIFICATION, WIDE | {'model.head.in_channels': 96}, WIDTHS),
    (DETECTION, WIDE | {'model.neck.in_channels': 96}, WIDTHS),
    (SEGMENTATION, WIDE | WIDE_HEADS, WIDTHS),
    (CLASSIFICATION, {'model.backbone.arch.num_layers': 4}, r'3 blocks .* 4 blocks .*missing 12 \(layers\.3\.ln1'),
    (CLASSIFICATION, {'model.backbone.arch.num_heads': 6}, 'trained with 3 attention heads, .* of this model has 6'),
]


@pytest.mark.parametrize(('task', 'options', 'message'), NETWORKS, ids=range(len(NETWORKS)))
def test_checkpoints_of_another_network(refused, pretrained, scenes, task, options, message):
    root = ('--data-root', scenes) if task.files else ()
    said = refused(task, '--pretrained', pretrained, '--branch', 'teacher', *root, **options)
    assert said.startswith(f'the teacher of {pretrained} ') and re.search(message, said), said


def changed(change: Callable[[dict], object]) -> Callable[[Path], object]:
    """Rewrites an annotation file."""

    def rewrite(path: Path) -> None:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return rewrite


ANNOTATIONS = {
    'missing': (Path.unlink, 'there is no annotation file {file}'),
    'no images': (changed(lambda content: content.pop('images')), '{file} has no images '),
    'empty images': (changed(lambda content: content.update(images=[])), 'the list of images in {file} is empty'),
    'truncated': (lambda path: path.write_text('{"images": ['), '{file} is not a complete JSON file'),
}


@pytest.mark.parametrize('split', ['train', 'val'])
@pytest.mark.parametrize('name', ANNOTATIONS)
def test_annotation_files(refused, scenes, name, split):
    """Those of the validation too, which is not read before the first epoch is over otherwise."""
    spoil, message = ANNOTATIONS[name]
    file = scenes / 'annotations' / f'instances_{split}2017.json'
    spoil(file)
    assert message.format(file=file) in refused(DETECTION, '--data-root', scenes, **ON_VAL)


@pytest.mark.parametrize('split', ['train', 'val'])
def test_categories_that_differ_between_training_and_validation(refused, scenes, split):
    file = scenes / 'annotations' / f'instances_{split}2017.json'
    changed(lambda content: content['categories'][3].update(name='zebra'))(file)
    said = refused(DETECTION, '--data-root', scenes, **ON_VAL)
    absent = 'zebra' if split == 'train' else 'square'
    assert said.startswith(f'{scenes / "annotations" / "instances_val2017.json"} has no category {absent!r}: '), said


@pytest.mark.parametrize('split', ['train', 'val'])
def test_label_maps_with_ids_beyond_the_classes(refused, scenes, split):
    path = min((scenes / 'gtFine' / split / 'scenes').iterdir())
    labels = np.asarray(Image.open(path)).copy()
    labels[:3] = 77
    Image.fromarray(labels).save(path)
    said = refused(SEGMENTATION, '--data-root', scenes)
    assert said.startswith(f'the label map {path} has the ids 77 on 4.7 % of its pixels, but ids are 0 to 10, '), said


# The task, whether it gets the scenes, further words of the command line, and the message.
COMMANDS = [
    (DETECTION, True, ['--num-classes', 7], r'has 10 classes \(ring, .*bbox_head is made for 7: give --num-classes 10'),
    (CLASSIFICATION, False, ['--num-classes', 3], 'has 10 classes .* head is made for 3: give --num-classes 10'),
    (SEGMENTATION, True, ['--num-classes', 5], r'has the ids \d.* but ids are 0 to 4, .*--num-classes N'),
    (CLASSIFICATION, False, ['--num-classes', 0], 'whole number from 1, not 0'),
    (PRETRAINING, False, ['--num-classes', 4], 'nothing in this config has a num_classes'),
    (PRETRAINING, False, ['--pretrained', 'a.pth'], r'checkpoint a\.pth does not exist; give the path of a \.pth file'),
    (SEGMENTATION, True, ['--epochs', 3], '--epochs: .* no max_epochs; give --iterations'),
    (DETECTION, True, ['--iterations', 3], '--iterations: .* no max_iters; give --epochs'),
    (DETECTION, False, ['--data-root', 'nowhere'], '--data-root nowhere: there is no such folder'),
    (SEGMENTATION, False, ['--data-root', ROOT / 'tools'], 'tools/train2017 does not exist: give the data root'),
    (DETECTION, False, ['--data-root', ROOT / 'tools'], 'no annotation file .*tools/annotations does not exist'),
    (CLASSIFICATION, False, ['--data-root', ROOT / 'tools'], 'generates its own images'),
]


@pytest.mark.parametrize('index', range(len(COMMANDS)))
def test_command_lines(refused, scenes, index):
    task, with_scenes, arguments, message = COMMANDS[index]
    said = refused(task, *(['--data-root', scenes] if with_scenes else []), *arguments)
    assert re.search(message, said), said
