"""Folders in COCO's format: labels, masks and crowds as the file says, and one message for each mistake."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from mmdet.evaluation import CocoMetric
from mmengine.registry import DATASETS, DefaultScope

from mstkit.datasets import coco_entries, coco_json
from mstkit.datasets.coco_json import coco_classes
from mstkit.downstream import coco_folder
from mstkit.downstream.coco_folder import CocoFolder
from mstkit.downstream.coco_metric import CocoFolderMetric
from mstkit.errors import UsageError

from .toy import SIZE, coco_content, crowd_mask, write_coco, write_image

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs'),
]


def build(root: Path, **changes: Any) -> CocoFolder:
    """As a config of mmdet's names it."""
    config = dict(
        type='mstkit.CocoFolder',
        data_root=str(root),
        ann_file='annotations/instances.json',
        data_prefix=dict(img='images'),
        pipeline=PIPELINE,
        serialize_data=False,  # which collects garbage: seconds where all of mmdet is loaded
    )
    with DefaultScope.overwrite_default_scope('mmdet'):
        return DATASETS.build(config | changes)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    lines: list[tuple[int, str]] = []
    monkeypatch.setattr(coco_folder, 'print_log', lambda text, logger, level=20: lines.append((level, text)))
    return lines


def test_a_sample_is_what_the_file_says(tmp_path):
    write_coco(tmp_path)
    dataset = build(tmp_path)
    assert isinstance(dataset, CocoFolder)
    assert dataset.metainfo['classes'] == ('cat', 'dog', 'tree')  # in the order of 4, 17, 30
    assert [dataset.get_data_info(i)['img_id'] for i in range(3)] == [7, 3, 9]
    sample = dataset[0]
    assert sample['inputs'].shape == (3, SIZE[1], SIZE[0])
    seen, ignored = sample['data_samples'].gt_instances, sample['data_samples'].ignored_instances
    assert seen.labels.tolist() == [1] and ignored.labels.tolist() == [0]
    assert seen.bboxes.tensor.tolist() == [[2, 3, 18, 13]]
    polygons = np.zeros((SIZE[1], SIZE[0]), bool)
    polygons[3:13, 2:12] = True
    mask = seen.masks.masks[0].astype(bool)
    assert (mask[:, :12] == polygons[:, :12]).all() and 4 <= mask[:, 12:].sum() <= 10  # the second part: a triangle
    assert (ignored.masks.masks[0] == crowd_mask()).all()


def test_what_is_left_out_is_counted(tmp_path, said):
    write_coco(tmp_path)
    assert len(build(tmp_path)) == 3
    assert len(build(tmp_path, filter_cfg=dict(filter_empty_gt=True))) == 2
    assert [text.partition(' of ' + str(tmp_path))[0] for _, text in said] == [
        'CocoFolder: 3 images with 3 annotations (1 of crowds) in 3 classes'
    ] * 2
    assert said[0][1].endswith('left out: 1 annotations of other classes, or with a box that is empty or outside')
    assert '1 images without annotations, 1 annotations' in said[1][1]
    content = coco_content()
    content['images'][2]['width'] = 5
    write_coco(tmp_path, content)
    write_image(tmp_path / 'images' / 'sub' / '9.png', (5, SIZE[1]))
    assert len(build(tmp_path, filter_cfg=dict(min_size=6))) == 2
    assert 'left out: 1 images smaller than 6 px, 1 annotations' in said[2][1]
    write_coco(tmp_path, changed('segmentation', [[1, 1, 5, 5]]))
    sample = build(tmp_path)[0]['data_samples']
    assert said[3][1].endswith(', 1 masks of fewer than three points')
    assert len(sample.gt_instances) == 0 and len(sample.ignored_instances) == 2


def test_some_of_the_classes(tmp_path, said):
    write_coco(tmp_path)
    dataset = build(tmp_path, metainfo=dict(classes=['dog', 'tree']), filter_cfg=dict(filter_empty_gt=True))
    assert dataset.metainfo['classes'] == ('dog', 'tree')
    assert [dataset.get_data_info(i)['instances'][0]['bbox_label'] for i in range(2)] == [0, 1]
    assert '2 annotations (0 of crowds) in 2 classes' in said[0][1] and '2 annotations of other classes' in said[0][1]
    with pytest.raises(UsageError, match='no annotation is left'):
        build(tmp_path, metainfo=dict(classes=['tree']), filter_cfg=dict(min_size=1000))


def test_labels_agree_with_mmdets_evaluation(tmp_path, said):
    """Detections that equal the annotations reach an AP of 1 only when both number the classes alike."""
    path = write_coco(tmp_path)
    content = coco_content()
    content['annotations'][0]['category_id'] = 30  # so that the two orders differ in a class that counts
    write_coco(tmp_path, content)
    dataset = build(tmp_path, test_mode=True, pipeline=[])
    assert said[0][0] == logging.WARNING and 'sort_categories=True' in said[0][1] and '30, 4, 17' in said[0][1]

    def average_precision(kind: type[CocoMetric] = CocoMetric, **options: Any) -> float:
        metric = kind(ann_file=str(path), metric='bbox', **options)
        metric.dataset_meta = dataset.metainfo
        for index in range(len(dataset)):
            info = dataset.get_data_info(index)
            instances = [instance for instance in info['instances'] if not instance['ignore_flag']]
            boxes = np.array([instance['bbox'] for instance in instances], np.float32).reshape(-1, 4)
            labels = np.array([instance['bbox_label'] for instance in instances], int)
            result = dict(img_id=info['img_id'], bboxes=boxes, labels=labels, scores=np.ones(len(instances)))
            metric.results.append((dict(width=SIZE[0], height=SIZE[1], img_id=info['img_id']), result))
        return metric.compute_metrics(metric.results)['bbox_mAP']

    assert average_precision(sort_categories=True) > 0.6
    assert average_precision(sort_categories=False) == 0  # what the warning is about
    assert average_precision(CocoFolderMetric) == average_precision(sort_categories=True)


def test_an_evaluation_without_detections_is_zero_and_not_the_one_before(tmp_path):
    path = write_coco(tmp_path)
    dataset = build(tmp_path, test_mode=True, pipeline=[])
    nothing = dict(bboxes=np.zeros((0, 4), np.float32), labels=np.zeros(0, int), scores=np.zeros(0), masks=[])
    found = {}
    for kind in (CocoMetric, CocoFolderMetric):
        metric = kind(ann_file=str(path), metric=['bbox', 'segm'])
        metric.dataset_meta = dataset.metainfo
        infos = [dataset.get_data_info(index) for index in range(len(dataset))]
        metric.results = [
            (dict(width=SIZE[0], height=SIZE[1], img_id=info['img_id']), dict(img_id=info['img_id'], **nothing))
            for info in infos
        ]
        found[kind] = metric.compute_metrics(metric.results)
    assert found[CocoMetric] == {}
    assert found[CocoFolderMetric]['bbox_mAP'] == found[CocoFolderMetric]['segm_mAP_50'] == 0.0
    assert len(found[CocoFolderMetric]) == 12


def test_the_official_classes_keep_their_colors(tmp_path):
    content = coco_content()
    content['categories'] = [dict(id=i + 1, name=name) for i, name in enumerate(CocoDataset.METAINFO['classes'])]
    write_coco(tmp_path, content)
    assert build(tmp_path).metainfo['palette'] == CocoDataset.METAINFO['palette']


def test_annotation_number_0_is_warned_of(tmp_path, said):
    content = coco_content()
    content['categories'].sort(key=lambda category: category['id'])
    content['annotations'][0]['id'] = 0
    write_coco(tmp_path, content)
    build(tmp_path, test_mode=True)
    assert [level for level, _ in said] == [logging.WARNING, logging.INFO] and 'the id 0' in said[0][1]
    del said[:]
    build(tmp_path)
    assert [level for level, _ in said] == [logging.INFO]


def test_categories_that_are_not_evaluated_are_warned_of(tmp_path, said):
    content = coco_content()
    content['categories'].sort(key=lambda category: category['id'])
    write_coco(tmp_path, content)
    build(tmp_path, test_mode=True, metainfo=dict(classes=['cat', 'dog']))
    assert said[0][0] == logging.WARNING
    assert (
        ': 1 of its 3 categories (tree), with 2 of 4 annotations, are not evaluated: they are not among the 2 '
        in said[0][1]
    )
    del said[:]
    build(tmp_path, test_mode=True)
    assert [level for level, _ in said] == [logging.INFO]


def test_lazy_data_sets_know_their_classes(tmp_path):
    write_coco(tmp_path)
    dataset = build(tmp_path, lazy_init=True)
    assert dataset.metainfo['classes'] == ('cat', 'dog', 'tree') and not dataset._fully_initialized
    dataset.full_init()
    assert len(dataset) == 3


def test_classes_are_read_without_the_rest(tmp_path, monkeypatch):
    path = write_coco(tmp_path)
    config = dict(data_root=str(tmp_path), ann_file='annotations/instances.json')
    assert CocoFolder.classes_of(config | dict(metainfo=dict(classes=['dog']))) == ('dog',)
    monkeypatch.setattr(coco_json, 'read_coco', None)
    assert coco_classes(path) == CocoFolder.classes_of(config) == ('cat', 'dog', 'tree')


def test_classes_of_unusual_files(tmp_path):
    content = coco_content()
    path = write_coco(tmp_path, content | dict(info=dict(categories=[dict(id=1, name='wrong')])))
    assert coco_classes(path) == ('cat', 'dog', 'tree')  # two lists of that name
    with pytest.raises(UsageError, match='no categories'):
        coco_classes(write_coco(tmp_path, dict(images=content['images'], annotations=[])))
    with pytest.raises(UsageError, match='there is no annotation file'):
        coco_classes(tmp_path / 'none.json')


def changed(change: str, value: Any = None) -> str:
    """The toy's file with one mistake."""
    content = coco_content()
    first = content['annotations'][0]
    if change in content:
        content[change] = value
    elif change == 'without':
        del content[value]
    elif change == 'field':
        del first[value]
    elif change == 'twice':
        content[value].append(dict(content[value][0]))
    elif change == 'name':
        content['categories'][0]['name'] = 'cat'
    elif change == 'size':
        content['annotations'][1]['segmentation']['size'] = [5, 5]
    else:
        first[change] = value
    return json.dumps(content)


MISTAKES = [
    ('', 'is not a complete JSON file .it ends in the middle'),
    (json.dumps(coco_content())[:-40], 'it ends in the middle'),
    (json.dumps(coco_content())[:200], 'it ends in the middle'),
    ('{"images": [}]' + ' ' * 40 + '"more"', 'is not a complete JSON file .Expecting value'),
    ('[]', 'holds a list'),
    (changed('without', 'images'), r'has no images \(it has categories, annotations\)'),
    (changed('without', 'annotations'), 'has no annotations'),
    (changed('without', 'categories'), 'has no categories'),
    (changed('images', []), 'list of images in .* is empty'),
    (changed('categories', []), 'list of categories in .* is empty'),
    (changed('annotations', []), 'no annotation is left'),
    (changed('field', 'area'), r'annotations\[0\] \(id 11\) has no area'),
    (changed('field', 'segmentation'), '1 of the 4 annotations .* have no segmentation, the first is annotation 11'),
    (changed('bbox', [1, 2, 3]), r'has bbox \[1, 2, 3\].*four numbers'),
    (changed('bbox', [1, 2, float('nan'), 3]), r'has bbox \[1, 2, nan, 3\]'),
    (changed('category_id', '17'), "has category_id '17'"),
    (changed('category_id', 5), '1 of 4 annotations have a category_id .* 3 categories, .* 11 with category_id 5'),
    (changed('image_id', 8), '1 of 4 annotations have a image_id .* annotation 11 with image_id 8'),
    (changed('twice', 'images'), 'images has the id 7 more than once'),
    (changed('twice', 'annotations'), 'annotations has the id 11 more than once'),
    (changed('name'), "two categories called 'cat'"),
    (changed('segmentation', [2, 3, 12, 3, 12, 13]), 'segmentation of annotation 11 is neither a list of polygons'),
    (changed('segmentation', 'x'), 'segmentation of annotation 11 is neither'),
    (changed('size'), r'mask of annotation 12 is of size \[5, 5\] and its image of \[30, 40\]'),
]


@pytest.mark.parametrize(('text', 'message'), MISTAKES, ids=range(len(MISTAKES)))
def test_bad_files(tmp_path, text, message):
    write_coco(tmp_path, text or ' ')
    with pytest.raises(UsageError, match=message) as caught:
        build(tmp_path)
    assert '\n' not in str(caught.value) and 'instances.json' in str(caught.value)


def test_boxes_alone_are_enough_for_boxes(tmp_path):
    write_coco(tmp_path, changed('field', 'segmentation'))
    plain = [PIPELINE[0], dict(type='LoadAnnotations', with_bbox=True), PIPELINE[2]]
    assert len(build(tmp_path, pipeline=plain)[0]['data_samples'].gt_instances) == 1


def test_missing_files(tmp_path):
    write_coco(tmp_path, name='instances_train.json')
    with pytest.raises(UsageError, match=r'beside it lie instances_train.json: .* Did you mean instances_train.json'):
        build(tmp_path)
    with pytest.raises(UsageError, match='nowhere does not exist'):
        build(tmp_path, ann_file='nowhere/a.json')
    with pytest.raises(UsageError, match='no other JSON file'):
        build(tmp_path, ann_file='images/a.json')
    write_coco(tmp_path)
    with pytest.raises(UsageError, match='photos does not exist'):
        build(tmp_path, data_prefix=dict(img='photos'))
    os.remove(tmp_path / 'images' / 'sub' / '3.png')
    with pytest.raises(UsageError, match=r'1 of the 3 images in .* are not in .*: sub/3.png\.'):
        build(tmp_path)
    with pytest.raises(UsageError, match='3 of the 3 images'):
        build(tmp_path, data_prefix=dict(img='annotations'))


@pytest.mark.parametrize(
    'name', ['http://host/a.png', 'https://host/a.png', 's3://bucket/a.png', 'a:http://host/a.png']
)
def test_a_image_is_not_fetched_from_where_a_file_says(tmp_path, name, monkeypatch):
    """mmdet opens a path with a scheme by that scheme, also where a file of that path is there."""
    content = coco_content()
    content['images'] = [image | dict(file_name=name) for image in content['images'][:1]] + content['images'][1:]
    write_coco(tmp_path, content)
    monkeypatch.chdir(tmp_path)
    os.makedirs(os.path.dirname(name))
    os.link('images/sub/7.png', name)
    for root in ('', tmp_path):
        with pytest.raises(UsageError, match=f'1 of the 3 images in .* named by a URL, the first is {name}'):
            build(root, data_prefix=dict(img=''))


def test_images_are_looked_for_folder_by_folder(tmp_path, monkeypatch):
    write_coco(tmp_path)
    listing = Mock(return_value={'7.png', '3.png', '9.png'})
    monkeypatch.setattr(coco_entries, 'listing', listing)
    monkeypatch.setattr(os.path, 'isfile', None)
    monkeypatch.setattr(os.path, 'exists', None)
    coco_entries.check_images([f'sub/{i}.png' for i in (7, 3, 9)], str(tmp_path / 'images'), 'a.json')
    listing.assert_called_once_with(str(tmp_path / 'images' / 'sub'))


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(metainfo=dict(classes=['cat', 'dgo'])), "no category 'dgo'.*cat, dog, tree.*cat, dgo.*Did you mean dog"),
        (dict(metainfo=dict(classes=['dog', 'cat'])), r'another order .*\(cat, dog\)'),
        (dict(metainfo=dict(classes=['cat', 'cat'])), 'or repeated'),
        (dict(metainfo=dict(classes='cat')), r"classes is 'cat': give a list of names, such as \('cat',\)"),
        (dict(data_prefix=dict(img_path='images')), 'dict\\(img=FOLDER'),
        (dict(backend_args=dict(backend='petrel')), 'local disk only'),
    ],
)
def test_settings_that_do_not_fit(tmp_path, settings, message):
    write_coco(tmp_path)
    with pytest.raises(UsageError, match=message):
        build(tmp_path, **settings)
