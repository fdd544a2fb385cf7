"""Images with label maps: pairing, ids, and one message for each mistake, at the start or in a worker."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, DefaultScope
from mmseg.datasets import CityscapesDataset
from PIL import Image
from torch.utils.data import DataLoader

from mstkit.downstream import label_maps
from mstkit.downstream.label_checks import CheckLabels, LabelSurvey, survey_labels
from mstkit.downstream.label_maps import CityscapesFolder, LabelMapFolder, palette
from mstkit.errors import UsageError

from .toy import SIZE, write_image, write_labels

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='mstkit.CheckLabels'),
    dict(type='PackSegInputs'),
]
WITHOUT_CHECK = [*PIPELINE[:2], PIPELINE[3]]
PREFIXES = dict(
    LabelMapFolder=dict(img_path='images/train', seg_map_path='labels/train'),
    CityscapesFolder=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
)


def build(kind: str, root: Path, **changes: Any) -> Any:
    """As a config of mmseg's names it."""
    config = dict(type=f'mstkit.{kind}', data_root=str(root), data_prefix=PREFIXES[kind], pipeline=PIPELINE)
    with DefaultScope.overwrite_default_scope('mmseg'):
        return DATASETS.build(config | dict(serialize_data=False) | changes)


def labels(*values: int, dtype: type = np.uint8, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A label map whose first pixels have these ids; the others are 0."""
    array: np.ndarray = np.zeros((size[1], size[0]), dtype)
    array.reshape(-1)[: len(values)] = values
    return array


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ('a.jpg', 'deep/b.png', 'deep/er/c.d.bmp'):
        write_image(tmp_path / 'images' / 'train' / name)
        write_labels((tmp_path / 'labels' / 'train' / name).with_suffix('.png'), labels(0, 1, 2, 255))
    return tmp_path


@pytest.fixture
def streets(tmp_path: Path) -> Path:
    for name in ('aachen/aachen_0_1', 'bonn/bonn_0_1'):
        write_image(tmp_path / 'leftImg8bit' / 'train' / f'{name}_leftImg8bit.png')
        write_labels(tmp_path / 'gtFine' / 'train' / f'{name}_gtFine_labelTrainIds.png', labels(0, 18, 255))
    return tmp_path


def test_images_of_any_format_and_depth(folder, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(label_maps, 'print_log', lambda text, logger: said.append(text))
    write_labels(folder / 'labels' / 'train' / 'alone.png', labels())
    dataset = build('LabelMapFolder', folder, num_classes=3)
    assert isinstance(dataset, LabelMapFolder)
    pairs = [(info['img_path'], info['seg_map_path']) for info in map(dataset.get_data_info, range(3))]
    images, maps = folder / 'images' / 'train', folder / 'labels' / 'train'
    assert pairs == [
        (str(images / 'a.jpg'), str(maps / 'a.png')),
        (str(images / 'deep/b.png'), str(maps / 'deep/b.png')),
        (str(images / 'deep/er/c.d.bmp'), str(maps / 'deep/er/c.d.png')),
    ]
    sample = dataset[2]
    assert sample['inputs'].shape == (3, SIZE[1], SIZE[0])
    assert sample['data_samples'].gt_sem_seg.data.reshape(-1)[:5].tolist() == [0, 1, 2, 255, 0]
    assert dataset.metainfo['classes'] == ('class0', 'class1', 'class2')
    assert len({tuple(color) for color in dataset.metainfo['palette']}) == 3
    assert len(said) == 1 and '3 images' in said[0] and '1 files in' in said[0]


def test_names_and_colors_of_classes(folder):
    names = dict(classes=['x', 'y', 'z'], palette=[[0, 0, 0], [1, 1, 1], [2, 2, 2]])
    dataset = build('LabelMapFolder', folder, num_classes=3, metainfo=names)
    assert dataset.metainfo['classes'] == names['classes'] and dataset.metainfo['palette'] == names['palette']
    colors = np.array(palette(60))
    assert colors.shape == (60, 3) and colors.min() >= 0 and colors.max() <= 255
    apart = np.abs(colors[:, None] - colors[None]).sum(-1) + 999 * np.eye(60, dtype=int)
    assert apart.min() >= 8 and apart[:12, :12].min() >= 60


def test_the_id_to_ignore_becomes_the_one_that_mmseg_ignores(folder):
    for path in (folder / 'labels').rglob('*.png'):
        write_labels(path, labels(1, 9, 2))
    dataset = build('LabelMapFolder', folder, num_classes=3, ignore_index=9)
    assert dataset[0]['data_samples'].gt_sem_seg.data.reshape(-1)[:4].tolist() == [1, 255, 2, 0]
    dataset = build('LabelMapFolder', folder, num_classes=2, ignore_index=9, reduce_zero_label=True)
    assert dataset[0]['data_samples'].gt_sem_seg.data.reshape(-1)[:4].tolist() == [0, 255, 1, 255]


def test_maps_with_a_longer_suffix(folder):
    for path in list((folder / 'labels').rglob('*.png')):
        path.rename(path.with_name(path.stem + '_Mask.PNG'))
    dataset = build('LabelMapFolder', folder, num_classes=3, seg_map_suffix='_mask.png')
    assert dataset.get_data_info(1)['seg_map_path'].endswith('deep/b_Mask.PNG')


def test_palette_images_hold_ids(folder):
    for path in (folder / 'labels').rglob('*.png'):
        image = Image.fromarray(labels(2, 255)).convert('P')
        image.putdata(labels(2, 255).reshape(-1).tolist())
        image.putpalette([200, 10, 10] * 256)
        image.save(path)
    sample = build('LabelMapFolder', folder, num_classes=3)[0]
    assert sample['data_samples'].gt_sem_seg.data.reshape(-1)[:3].tolist() == [2, 255, 0]


def test_cityscapes(streets):
    dataset = build('CityscapesFolder', streets)
    assert isinstance(dataset, CityscapesFolder) and len(dataset) == 2
    assert dataset.metainfo['classes'] == CityscapesDataset.METAINFO['classes']
    assert dataset[1]['data_samples'].gt_sem_seg.data.reshape(-1)[:4].tolist() == [0, 18, 255, 0]
    some = build('CityscapesFolder', streets, metainfo=dict(classes=('bicycle', 'car')))
    assert some[1]['data_samples'].gt_sem_seg.data.reshape(-1)[:4].tolist() == [255, 0, 255, 255]


def test_cityscapes_in_another_format(streets):
    for path in list((streets / 'leftImg8bit').rglob('*.png')):
        write_image(path.with_suffix('.jpg'))
        if 'bonn' in path.name:
            path.unlink()
    with pytest.raises(UsageError, match=r'_leftImg8bit\.jpg and _leftImg8bit\.png: give one of them as img_suffix'):
        build('CityscapesFolder', streets)
    assert len(build('CityscapesFolder', streets, img_suffix='_leftImg8bit.png')) == 1
    next((streets / 'leftImg8bit').rglob('*.png')).unlink()
    assert len(build('CityscapesFolder', streets)) == 2


def spoil(path: Path, kind: str) -> None:
    if kind == 'ids':
        write_labels(path, labels(3, 7, 7, 254))
    elif kind == 'colors':
        write_labels(path, np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    elif kind == 'alpha':
        write_labels(path, np.zeros((SIZE[1], SIZE[0], 2), np.uint8))
    elif kind == 'size':
        write_labels(path, labels(size=(SIZE[0], 20)))
    elif kind == 'deep':
        write_labels(path, labels(258, dtype=np.uint16))  # 2, when only its lowest byte is looked at
    elif kind == 'broken':
        path.write_bytes(path.read_bytes()[:50])


MISTAKES = {
    'ids': r'b\.png has the ids 3, 7, 254 on 0\.33 % of its pixels, but ids are 0 to 2, and 255',
    'colors': r'b\.png has 3 channels',
    'alpha': r'b\.png has 2 channels',
    'size': r'b\.png is 40x20 px and its image 40x30',
}


@pytest.mark.parametrize(
    ('kind', 'message'),
    [
        *{
            **MISTAKES,
            'size': r'1 of the 3 images are .*b\.png: it is read as 40x30 px, and annotated as 40x20',
        }.items(),
        ('deep', r'b\.png has the ids 258 on'),
        ('broken', r'b\.png cannot be read'),
    ],
)
def test_maps_that_cannot_be_trained_on_at_the_start(folder, kind, message):
    spoil(folder / 'labels' / 'train' / 'deep' / 'b.png', kind)
    with pytest.raises(UsageError, match=message) as caught:
        build('LabelMapFolder', folder, num_classes=3)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('kind', 'message', 'workers'),
    [
        *((kind, message, 0) for kind, message in MISTAKES.items()),
        ('deep', r'b\.png has ids up to 258', 0),
        ('ids', MISTAKES['ids'], 1),
    ],
)
def test_maps_that_cannot_be_trained_on_while_training(folder, monkeypatch, kind, message, workers):
    """Also from a worker the message is the sentence alone, not the worker's traceback."""
    monkeypatch.setattr(label_maps, '_check_pairs', lambda *_: None)
    spoil(folder / 'labels' / 'train' / 'deep' / 'b.png', kind)
    dataset = build('LabelMapFolder', folder, num_classes=3)
    loader = DataLoader(dataset, batch_size=1, num_workers=workers, collate_fn=pseudo_collate)
    with pytest.raises(UsageError, match=message) as caught:
        list(loader)
    assert str(caught.value).startswith('the label map ') and '\n' not in str(caught.value)


def test_the_check_comes_after_resizing_too(folder):
    resize = dict(type='Resize', scale=(20, 15))
    dataset = build('LabelMapFolder', folder, num_classes=3, pipeline=[PIPELINE[0], resize, *PIPELINE[1:]])
    assert dataset[0]['inputs'].shape == (3, 15, 20)  # while the label map keeps its size, as in mmseg's tests


def test_the_check_alone():
    results = dict(gt_seg_map=labels(0, 4, 255), seg_map_path='x.png', ori_shape=(SIZE[1], SIZE[0]))
    assert CheckLabels(5)(dict(results))['gt_seg_map'] is results['gt_seg_map']
    assert CheckLabels()(results | dict(num_classes=5))['num_classes'] == 5
    for settings, changes, message in (
        (dict(num_classes=4), {}, 'x.png has the ids 4 '),
        (dict(num_classes=5, ignore_index=3), {}, 'x.png has the ids 255 '),
        ({}, {}, 'needs num_classes'),
        (dict(num_classes=5), dict(gt_seg_map=None), 'put it after LoadAnnotations'),
    ):
        given = {key: value for key, value in (results | changes).items() if value is not None}
        with pytest.raises(UsageError, match=message):
            CheckLabels(**settings)(given)
    with pytest.raises(UsageError, match='num_classes is 0'):
        CheckLabels(0)


def test_those_looked_at_are_spread_over_all(monkeypatch):
    seen: list[str] = []

    def read(path: str) -> np.ndarray:
        seen.append(path)
        return labels()

    monkeypatch.setattr('mstkit.downstream.label_checks.read_label_map', read)
    survey_labels([str(i) for i in range(100)], LabelSurvey('x', {0: 'a'}, 1), 4)
    assert sorted(seen, key=int) == ['0', '25', '50', '75']
    del seen[:]
    survey_labels([str(i) for i in range(3)], LabelSurvey('x', {0: 'a'}, 1), 16)
    assert sorted(seen) == ['0', '1', '2']


def test_images_and_maps_have_to_be_there(folder):
    def refused(message: str, **changes: Any) -> None:
        with pytest.raises(UsageError, match=message):
            build('LabelMapFolder', folder, num_classes=3, **changes)

    refused('images/val does not exist', data_prefix=dict(img_path='images/val', seg_map_path='labels/train'))
    refused('labels/val does not exist', data_prefix=dict(img_path='images/train', seg_map_path='labels/val'))
    refused('give both folders', data_prefix=dict(img_path='images/train'))
    (folder / 'labels' / 'train' / 'a.png').unlink()
    refused(r'1 of the 3 images in .* have no label map .*: a\.jpg\. The label map of a\.jpg is a\.png')
    write_image(folder / 'images' / 'train' / 'deep' / 'b.jpg')
    refused('two images called deep/b ')
    shutil.rmtree(folder / 'images' / 'train')
    (folder / 'images' / 'train').mkdir()
    (folder / 'images' / 'train' / 'notes.txt').write_text('')
    refused(r'holds no images; ignored 1 files that are no images \(1 \.txt\)')


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(num_classes=0), 'num_classes is 0'),
        (dict(num_classes=256), 'num_classes is 256'),
        (dict(num_classes=3, ignore_index=2), 'ignore_index is 2, but the ids of classes are 0 to 2: give 3 to 255'),
        (dict(num_classes=3, ignore_index=3, reduce_zero_label=True), 'the ids of classes are 1 to 3'),
        (dict(num_classes=3, ignore_index=256), 'ignore_index is 256'),
        (dict(num_classes=3, metainfo=dict(classes=['a', 'b'])), r'num_classes is 3, but metainfo.classes are a, b:'),
        (dict(num_classes=3, metainfo=dict(classes='abc')), "metainfo.classes are 'abc'"),
    ],
)
def test_settings_that_do_not_fit(folder, settings, message):
    with pytest.raises(UsageError, match=message):
        build('LabelMapFolder', folder, **settings)


def test_cityscapes_that_is_not_complete(streets):
    def refused(message: str, **changes: Any) -> None:
        with pytest.raises(UsageError, match=message) as caught:
            build('CityscapesFolder', streets, **changes)
        assert '\n' not in str(caught.value)

    refused('leftImg8bit/val does not exist', data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'))
    refused('gtFine/val does not exist', data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/val'))
    refused(r'holds no \*_leftImg8bit.jpg', img_suffix='_leftImg8bit.jpg')
    train_ids = streets / 'gtFine' / 'train' / 'bonn' / 'bonn_0_1_gtFine_labelTrainIds.png'
    write_labels(train_ids, labels(19, 33))
    refused('bonn_0_1_gtFine_labelTrainIds.png has the ids 19, 33 on .* ids are 0 to 18')
    train_ids.unlink()
    refused('1 of the 2 images .* have no label map .* bonn/bonn_0_1_gtFine_labelTrainIds.png: unpack')
    write_labels(train_ids.with_name('bonn_0_1_gtFine_labelIds.png'), labels(7))
    refused(f'run "python tools/dataset_converters/cityscapes_train_ids.py {streets}" once')


def test_without_the_check_wrong_ids_would_go_through(folder, monkeypatch):
    """What CheckLabels is for: mmseg's own pipeline hands ids beyond the classes to the loss."""
    monkeypatch.setattr(label_maps, '_check_pairs', lambda *_: None)
    spoil(folder / 'labels' / 'train' / 'deep' / 'b.png', 'ids')
    sample = build('LabelMapFolder', folder, num_classes=3, pipeline=WITHOUT_CHECK)[1]
    assert sample['data_samples'].gt_sem_seg.data.max() > 3
