"""The scenes as files: what COCO's and Cityscapes' readers get out of them, and what interruptions leave."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from PIL import Image
from pycocotools.coco import COCO

from mstkit.errors import UsageError
from mstkit.scenes import scene_files
from mstkit.scenes.scene_files import LABELS, SMALLEST, ensure_scenes
from mstkit.scenes.scene_images import CLASSES, Scene, render_scene
from tests.programs import load_program

ROOT = Path(__file__).parents[2]
COUNTS = {'train': 12, 'val': 5}
LITTLE = dict(train=3, val=2, size=16, objects=2)


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_scenes(tmp_path_factory.mktemp('files') / 'new' / 'scenes', **COUNTS, size=48, objects=3, seed=1)


@pytest.fixture(scope='module', params=['train', 'val'])
def split(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope='module')
def scenes(split: str) -> list[Scene]:
    return [render_scene(1, split, index, 48, 3) for index in range(COUNTS[split])]


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """The scenes that are rendered; the first one of each call is the check of the arguments."""
    found = []

    def render(*arguments):
        found.append(arguments)
        return render_scene(*arguments)

    monkeypatch.setattr(scene_files, 'render_scene', render)
    return found


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def test_coco_gives_back_masks_boxes_and_areas(folder: Path, split: str, scenes: list[Scene]) -> None:
    coco = COCO(folder / 'annotations' / f'instances_{split}2017.json')
    assert [(kind['id'], kind['name']) for kind in coco.loadCats(coco.getCatIds())] == list(enumerate(CLASSES, 1))
    assert coco.getImgIds() == list(range(1, len(scenes) + 1))
    assert coco.getAnnIds() == list(range(1, 3 * len(scenes) + 1))
    for number, scene in enumerate(scenes, 1):
        (image,) = coco.loadImgs(number)
        pixels = np.asarray(Image.open(folder / f'{split}2017' / image['file_name']))
        assert (image['file_name'], image['width'], image['height']) == (f'{number:012d}.png', 48, 48)
        np.testing.assert_array_equal(pixels, scene.image)
        found = coco.loadAnns(coco.getAnnIds(number))
        for annotation, instance in zip(found, scene.instances, strict=True):
            assert annotation['category_id'] == instance.class_id + 1 and annotation['iscrowd'] == 0
            assert type(annotation['segmentation']) is list
            np.testing.assert_array_equal(coco.annToMask(annotation), instance.mask)
            rows, columns = np.nonzero(instance.mask)
            width, height = np.ptp(columns) + 1, np.ptp(rows) + 1
            assert annotation['bbox'] == [columns.min(), rows.min(), width, height]
            assert annotation['area'] == len(rows)


def test_mmdet_reads_it(folder: Path, split: str, scenes: list[Scene]) -> None:
    from mmdet.datasets import CocoDataset
    from mmdet.datasets.transforms import LoadAnnotations

    dataset = CocoDataset(
        data_root=str(folder),
        ann_file=f'annotations/instances_{split}2017.json',
        data_prefix=dict(img=f'{split}2017/'),
        metainfo=dict(classes=CLASSES),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=[LoadImageFromFile(), LoadAnnotations(with_bbox=True, with_mask=True)],
    )
    assert len(dataset) == len(scenes)
    for index, scene in enumerate(scenes):
        results = dataset[index]
        np.testing.assert_array_equal(results['img'][..., ::-1], scene.image)
        masks = np.stack([instance.mask for instance in scene.instances])
        np.testing.assert_array_equal(results['gt_masks'].masks, masks)
        assert results['gt_bboxes'].tensor.tolist() == [list(instance.box) for instance in scene.instances]
        assert results['gt_bboxes_labels'].tolist() == [instance.class_id for instance in scene.instances]
        assert not results['gt_ignore_flags'].any()


def test_mmseg_reads_it(folder: Path, split: str, scenes: list[Scene]) -> None:
    from mmseg.datasets import BaseSegDataset
    from mmseg.datasets.transforms import LoadAnnotations

    dataset = BaseSegDataset(
        img_suffix='_leftImg8bit.png',
        seg_map_suffix='_gtFine_labelTrainIds.png',
        data_root=str(folder),
        data_prefix=dict(img_path=f'leftImg8bit/{split}', seg_map_path=f'gtFine/{split}'),
        metainfo=dict(classes=LABELS),
        pipeline=[LoadImageFromFile(), LoadAnnotations()],
    )
    assert len(dataset) == len(scenes)
    for index, scene in enumerate(scenes):
        results = dataset[index]
        np.testing.assert_array_equal(results['img'][..., ::-1], scene.image)
        np.testing.assert_array_equal(results['gt_seg_map'], scene.label_map())
    assert len(LABELS) == 11 and LABELS[scenes[0].label + 1] == CLASSES[scenes[0].label]


def test_label_maps_have_one_channel_and_images_are_links(folder: Path, split: str) -> None:
    label_maps = sorted((folder / 'gtFine' / split).rglob('*.png'))
    assert [Image.open(path).mode for path in label_maps] == ['L'] * COUNTS[split]
    for path in (folder / f'{split}2017').iterdir():
        assert path.samefile(folder / 'leftImg8bit' / split / 'scenes' / f'{path.stem}_leftImg8bit.png')


def test_the_same_bytes_again_and_others_for_another_seed(folder: Path, tmp_path: Path) -> None:
    again = ensure_scenes(tmp_path / 'again', **COUNTS, size=48, objects=3, seed=1)
    assert content(again) == content(folder)
    other = content(ensure_scenes(tmp_path / 'other', **COUNTS, size=48, objects=3, seed=2))
    assert other.keys() == content(folder).keys()
    assert all(other[name] != before for name, before in content(folder).items() if 'gtFine' not in name)


def test_what_is_there_is_not_written_again(tmp_path: Path, rendered: list[tuple]) -> None:
    ensure_scenes(tmp_path, **LITTLE)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')}
    assert len(rendered) == 1 + 5
    assert ensure_scenes(str(tmp_path), **LITTLE) == tmp_path
    assert len(rendered) == 2 + 5
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')} == written


def test_what_went_missing_is_written_again(tmp_path: Path) -> None:
    before = content(ensure_scenes(tmp_path, **LITTLE))
    for name in ('train2017/000000000002.png', 'annotations/instances_val2017.json'):
        (tmp_path / name).unlink()
        ensure_scenes(tmp_path, **LITTLE)
        assert content(tmp_path) == before


class Dies(BaseException):
    """What a kill looks like from inside."""


def test_interrupted_anywhere_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rendered: list) -> None:
    whole, folder = content(ensure_scenes(tmp_path / 'whole', **LITTLE)), tmp_path / 'killed'
    replace, left = os.replace, 0

    def die_later(source: object, target: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Dies
        replace(source, target)

    monkeypatch.setattr(os, 'replace', die_later)
    # A call needs five files for some progress: its arguments, the annotations before, and three of a scene.
    for left in (0, 1, 2, 3, 5, 6, 7, 8, 5, 6, 7, 8, 5, 6, 7, 8):  # noqa: B007 (counted down above)
        finished = {(path.parent.name, int(path.stem)) for path in folder.glob('.unfinished/*/*.json')}
        del rendered[:]
        try:
            ensure_scenes(folder, **LITTLE)
        except Dies:
            assert not (folder / 'scenes.json').exists()
        assert not finished & {each[1:3] for each in rendered[1:]}, 'finished scenes are not made again'
        for name, found in content(folder).items():
            unnamed = name.startswith('.unfinished/') or name.endswith('.partial')
            assert unnamed or found == whole[name], 'half a file under a final name'
        if (folder / 'scenes.json').exists():
            break
        if (folder / 'train2017').exists():
            (folder / 'train2017' / '.000000000001.png.1.partial').touch()  # what a real kill leaves
    assert content(folder) == whole
    assert not (folder / '.unfinished').exists()


def test_a_death_between_the_stamp_and_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> None:
        raise Dies

    with monkeypatch.context() as patch, pytest.raises(Dies):
        patch.setattr(scene_files.shutil, 'rmtree', die)
        ensure_scenes(tmp_path / 'scenes', **LITTLE)
    assert content(ensure_scenes(tmp_path / 'scenes', **LITTLE)) == content(ensure_scenes(tmp_path / 'b', **LITTLE))


def test_of_two_at_once_one_waits(tmp_path: Path, rendered: list[tuple]) -> None:
    threads = [threading.Thread(target=ensure_scenes, args=(tmp_path / 'x',), kwargs=LITTLE) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rendered) == 2 + 5
    assert content(tmp_path / 'x') == content(ensure_scenes(tmp_path / 'y', **LITTLE))


def test_hardly_visible_objects_are_left_out_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(scene_files, 'print_log', lambda message, **_: said.append(message))
    ensure_scenes(tmp_path, train=40, val=1, size=16, objects=8)
    areas = [
        int(instance.mask.sum()) for index in range(40) for instance in render_scene(0, 'train', index, 16, 8).instances
    ]
    small = sum(area < SMALLEST for area in areas)
    assert small > 0
    stamp = json.loads((tmp_path / 'scenes.json').read_text())
    assert stamp['train'] == dict(scenes=40, annotated=320 - small, left_out=small)
    assert f'40 train scenes with {320 - small} objects; {small} more' in said[0]
    annotations = json.loads((tmp_path / 'annotations' / 'instances_train2017.json').read_text())['annotations']
    assert [one['area'] for one in annotations] == [area for area in areas if area >= SMALLEST]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the tool; gives its exit code, what it printed and the last line of its errors."""
    module = load_program('tools/make_scenes.py')

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, 'argv', ['make_scenes.py', *map(str, arguments)])
        code = 0
        try:
            module.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = capsys.readouterr()
        return code, said.out, (said.err.strip().splitlines() or [''])[-1]

    return call


def test_the_tool_writes_what_python_writes(tmp_path: Path, tool) -> None:
    options = [word for name, value in LITTLE.items() for word in (f'--{name}', value)]
    code, printed, _ = tool(tmp_path / 'a', *options, '--seed', 5)
    assert code == 0 and str(tmp_path / 'a') in printed
    assert content(tmp_path / 'a') == content(ensure_scenes(tmp_path / 'b', **LITTLE, seed=5))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('--size', 8), 'the size of a scene is 8: give a whole number in [16, 512].'),
        (('--size', 1024), 'size of a scene is 1024'),
        (('--objects', 0), 'number of objects of a scene is 0'),
        (('--objects', 9), 'number of objects of a scene is 9'),
        (('--train', 0), 'train is 0'),
        (('--val', -1), 'val is -1'),
        (('--seed', -1), 'seed of a scene is -1'),
    ],
)
def test_what_is_out_of_range_is_refused_before_anything_is_made(tmp_path: Path, tool, options, message) -> None:
    code, _, error = tool(tmp_path / 'scenes', *options)
    assert code == 2 and error.startswith('error: ') and message in error
    assert not (tmp_path / 'scenes').exists()


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path, tool) -> None:
    little = [word for name, value in LITTLE.items() for word in (f'--{name}', value)]
    scenes, mine, file, strange = (tmp_path / name for name in ('scenes', 'mine', 'file', 'strange'))
    ensure_scenes(scenes, **LITTLE)
    for folder, name in ((mine, 'thesis.txt'), (strange, 'scenes.json')):
        folder.mkdir()
        (folder / name).write_text('[]')
    file.touch()
    before = content(tmp_path)
    for arguments, message in (
        ((scenes, *little, '--seed', 1), f'{scenes} holds other scenes (seed 0 instead of 1)'),
        ((scenes, '--size', 32), 'train 3 instead of 400, val 2 instead of 100, size 16 instead of 32, objects'),
        ((mine, *little), f'{mine} holds thesis.txt'),
        ((file, *little), f'{file} is not a folder; remove it, or give another place'),
        ((file / 'below', *little), f'{file / "below"} cannot be written: {file} is not a folder'),
        ((strange, *little), f'{strange / "scenes.json"} says nothing about scenes'),
    ):
        code, _, error = tool(*arguments)
        assert code == 2 and error.startswith('error: ') and message in error, error
    assert content(tmp_path) == before


def test_unfinished_scenes_of_other_arguments_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene_files, 'link_or_copy', lambda *_: (_ for _ in ()).throw(Dies))
    with pytest.raises(Dies):
        ensure_scenes(tmp_path, **LITTLE)
    with pytest.raises(UsageError, match=r'other scenes \(size 16 instead of 32\)'):
        ensure_scenes(tmp_path, **{**LITTLE, 'size': 32})
