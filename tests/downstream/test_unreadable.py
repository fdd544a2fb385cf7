"""Images that cannot be read: replaced, named and counted in a training, and never left out of a measurement."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mmengine.dataset import default_collate, pseudo_collate
from mmengine.registry import DATASETS

from mstkit.datasets.unreadable_images import replaced_in
from mstkit.errors import UsageError

from . import running, test_coco_folder, test_label_maps
from .running import SEGMENTATION
from .toy import write_coco, write_image, write_labels

PACKED = [dict(type='LoadRGB'), dict(type='CenterCrop', crop_size=20), dict(type='PackInputs')]


def coco(root: Path, **changes: Any) -> Any:
    if not (root / 'images').exists():
        write_coco(root)
    return test_coco_folder.build(root, **changes)


def label_maps(root: Path, **changes: Any) -> Any:
    for name in ('3', '7', '9'):
        if not (root / 'labels' / 'train' / f'{name}.png').exists():
            write_image(root / 'images' / 'train' / f'{name}.png')
            write_labels(root / 'labels' / 'train' / f'{name}.png', test_label_maps.labels(0, 1))
    return test_label_maps.build('LabelMapFolder', root, num_classes=2, **changes)


def image_folder(root: Path, **changes: Any) -> Any:
    for name in ('a/3', 'a/7', 'b/9'):
        if not (root / 'train' / f'{name}.png').exists():
            write_image(root / 'train' / f'{name}.png')
    config = dict(type='ImageFolder', data_root=str(root), labeled=True, serialize_data=False, pipeline=PACKED)
    return DATASETS.build(config | changes)


BUILD: dict[str, Callable[..., Any]] = dict(coco=coco, label_maps=label_maps, image_folder=image_folder)


def spoil(root: Path, name: str, kept: int | None = None) -> Path:
    """Cuts the image off; a whole head lets it be found only when it is read."""
    (path,) = [path for path in root.rglob(f'{name}.png') if 'labels' not in path.parts]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3 if kept is None else kept])
    return path


@pytest.mark.parametrize('kind', BUILD)
def test_a_training_replaces_and_names_them(kind, tmp_path):
    dataset = BUILD[kind](tmp_path)
    broken = spoil(tmp_path, '3')
    index = [dataset.get_data_info(i)['img_path'] for i in range(3)].index(str(broken))
    collate = default_collate if kind == 'image_folder' else pseudo_collate
    found = replaced_in(collate([dataset[i] for i in range(3)]))
    assert list(found) == [str(broken)] and 'truncated' in found[str(broken)]
    sample = dataset[index]['data_samples']
    assert sample.img_path != str(broken) and sample.replaced == [str(broken)]
    assert dataset[index]['data_samples'].img_path == sample.img_path, 'the same one every time'
    assert replaced_in(collate([dataset[(index + 1) % 3]])) == {}


@pytest.mark.parametrize('kind', BUILD)
def test_a_measurement_stops_at_them(kind, tmp_path):
    dataset = BUILD[kind](tmp_path, test_mode=True)
    broken = spoil(tmp_path, '9')
    index = [dataset.get_data_info(i)['img_path'] for i in range(3)].index(str(broken))
    assert dataset[(index + 1) % 3]['inputs'].numel() > 0
    with pytest.raises(UsageError) as caught:
        dataset[index]
    said = str(caught.value)
    assert said.startswith(f'{broken}, of the data to validate or test on, cannot be read (') and '\n' not in said


@pytest.mark.parametrize('kind', ['coco', 'label_maps'])
def test_a_measurement_is_refused_at_the_start_where_the_head_tells(kind, tmp_path):
    BUILD[kind](tmp_path)
    broken = spoil(tmp_path, '7', kept=0)
    with pytest.raises(UsageError, match=rf'^{broken}, of the data .* cannot be read \(the file is empty\)'):
        BUILD[kind](tmp_path, test_mode=True)
    assert list(replaced_in(pseudo_collate([BUILD[kind](tmp_path)[i] for i in range(3)]))) == [str(broken)]


def test_what_else_goes_wrong_is_told_with_the_image(tmp_path):
    dataset = coco(tmp_path)

    def fail(_: dict) -> None:
        raise ZeroDivisionError('by nought')

    dataset.pipeline.transforms.append(fail)
    with pytest.raises(RuntimeError, match=r'7\.png cannot be prepared: ZeroDivisionError: by nought'):
        dataset[0]


def test_a_run_counts_them(scenes, pretrained, tmp_path):
    """By the hook that the configs have."""
    root = Path(shutil.copytree(scenes, tmp_path / 'scenes'))
    broken = min((root / 'train2017').iterdir())
    broken.write_bytes(broken.read_bytes()[:-40])
    options = {
        'train_dataloader.batch_size': 16,
        'train_dataloader.dataset.indices': 16,
        'train_cfg.val_interval': 99,
    }
    running.train(running.load(SEGMENTATION, tmp_path / 'run', root, iterations=1, cfg_options=options))
    said = running.log_of(tmp_path / 'run')
    assert f'unreadable image, replaced by another: {broken} (' in said
    assert 'images of the training set: 1 of 16 files could not be read and were replaced' in said
