"""Folders of objects with keypoints, what a config takes from them, and the metric."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope
from mmengine.structures import BaseDataElement, InstanceData

from mstkit.datasets.keypoint_annotations import read_keypoints
from mstkit.datasets.sampling import SampleKey
from mstkit.downstream import keypoints
from mstkit.downstream.keypoint_folder import KeypointFolder
from mstkit.downstream.keypoint_metric import KeypointMetric
from mstkit.engine.config.downstream_options import match_keypoints
from mstkit.engine.launch.launch import load_config
from mstkit.errors import UsageError
from mstkit.evaluation.protocols.keypoint_scores import oks_average_precision, pck

from .running import ROOT
from .toy_keypoints import NAMES, write_keypoints

assert keypoints.__all__  # registers what the pipeline below names
TINY = ROOT / 'configs' / 'downstream' / 'keypoints' / 'keypoints_vit-tiny_folder.py'
PIPELINE = [
    dict(type='LoadRGB'),
    dict(type='CropInstance', size=(32, 32), rotation=30.0, flip_prob=0.5),
    dict(type='PackKeypoints'),
]


@pytest.fixture(scope='module')
def _shared(tmp_path_factory) -> Path:
    return write_keypoints(tmp_path_factory.mktemp('keypoints') / 'data')


@pytest.fixture
def root(_shared) -> Path:
    return _shared


def folder(root: Path, split: str = 'train', **more: Any) -> KeypointFolder:
    settings: dict[str, Any] = dict(pipeline=PIPELINE, test_mode=split == 'val') | more
    with DefaultScope.overwrite_default_scope('mstkit'):
        return KeypointFolder(
            f'annotations/person_keypoints_{split}2017.json', str(root), dict(img=f'{split}2017'), **settings
        )


def changed(root: Path, change: Any, split: str = 'train') -> Path:
    """The same folder with another annotation file."""
    path = root / 'annotations' / f'person_keypoints_{split}2017.json'
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return root


def test_every_object_is_a_sample(root):
    dataset = folder(root)
    annotations = json.loads((root / 'annotations' / 'person_keypoints_train2017.json').read_text())['annotations']
    assert len(dataset) == len(annotations) == 12
    assert dataset.metainfo['keypoints'] == tuple(NAMES) and dataset.metainfo['skeleton'] == ((0, 1), (0, 2))
    for sample, entry in zip(dataset, annotations, strict=True):
        truth = sample['data_samples'].gt_instances
        x, y, width, height = entry['bbox']
        assert truth.bboxes[0].tolist() == pytest.approx([x, y, x + width, y + height])
        assert truth.keypoints[0].tolist() == [pytest.approx(entry['keypoints'][i : i + 2]) for i in (0, 3, 6)]
        assert sample['data_samples'].instance_id == entry['id'] and sample['inputs'].shape == (3, 32, 32)
        assert sample['data_samples'].flip_indices == [0, 2, 1]


def test_views_are_those_of_the_key(root):
    first, again = folder(root), folder(root)
    shown = [first[SampleKey(3, epoch)]['inputs'] for epoch in range(3)]
    assert torch.equal(shown[1], again[SampleKey(3, 1)]['inputs'])
    assert not torch.equal(shown[0], shown[1]) and not torch.equal(shown[1], shown[2])


def test_what_is_left_out_is_said(tmp_path, caplog):
    root = write_keypoints(tmp_path / 'data')

    def change(content: dict) -> None:
        content['annotations'][0]['iscrowd'] = 1
        content['annotations'][1].update(keypoints=[0] * 9, num_keypoints=0)

    assert len(folder(changed(root, change))) == 10


def test_other_keypoints_are_refused(tmp_path):
    root = write_keypoints(tmp_path / 'data', names=['tip', 'left', 'right'])
    with pytest.raises(
        UsageError, match=r'val2017\.json has the keypoints tip, left, right, but those of the training'
    ) as caught:
        folder(root, 'val', metainfo=dict(keypoints=tuple(NAMES)))
    assert '\n' not in str(caught.value)
    with pytest.raises(UsageError, match=r"KeypointFolder\.data_prefix is \{'images': ''\}"):
        KeypointFolder('x.json', data_prefix=dict(images=''))


def test_an_image_that_cannot_be_read(tmp_path):
    root = write_keypoints(tmp_path / 'data')
    for split, number in (('train', 2), ('val', 1001)):
        path = root / f'{split}2017' / f'{number}.png'
        path.write_bytes(path.read_bytes()[:200])
    dataset = folder(root)
    packed = dataset[4]
    assert packed['data_samples'].replaced == [str(root / 'train2017' / '2.png')]
    assert packed['data_samples'].img_path != str(root / 'train2017' / '2.png')
    measured = folder(root, 'val')
    with pytest.raises(UsageError, match=r'1001\.png, of the data to validate or test on, cannot be read'):
        measured[2]
    (root / 'train2017' / '3.png').write_bytes(b'nothing')
    assert len(folder(root)) == 12
    (root / 'val2017' / '1001.png').write_bytes(b'nothing')
    with pytest.raises(UsageError, match=r'1001\.png, of the data to validate or test on, cannot be read'):
        folder(root, 'val')  # before the training has begun


def test_the_head_gets_as_many_keypoints_as_the_data_has(root):
    config, notes = load_config(TINY, data_root=str(root), work_dir='x')
    assert config.model.head.num_keypoints == 3 and '3 keypoints for model.head' in notes
    for name in ('train', 'val', 'test'):
        assert config[f'{name}_dataloader'].dataset.metainfo == dict(keypoints=tuple(NAMES))
    other = Config(dict(model=dict(head=dict(num_keypoints=17)), train_dataloader=dict(dataset=dict(type='TextList'))))
    assert match_keypoints(other) == [] and match_keypoints(Config(dict(model={}))) == []
    assert other.model.head.num_keypoints == 17


def test_a_folder_without_annotations_is_said_before_the_run(tmp_path):
    (tmp_path / 'annotations').mkdir()
    with pytest.raises(UsageError, match=r'person_keypoints_train2017\.json'):
        load_config(TINY, data_root=str(tmp_path), work_dir='x')


def measure(root: Path, move: Any, **data: Any) -> dict[str, float]:
    """The metric of predictions that are the truth, moved."""
    dataset = folder(root, 'val', **data)
    evaluator = Evaluator(KeypointMetric((0.1, 0.2)))
    evaluator.dataset_meta = dataset.metainfo
    samples = [dataset[index]['data_samples'] for index in range(len(dataset))]
    for number, sample in enumerate(samples):
        truth = sample.gt_instances
        sample.pred_instances = InstanceData(
            keypoints=truth.keypoints + torch.as_tensor(move(number), dtype=torch.float32),
            keypoint_scores=torch.ones(1, 3),
            scores=torch.tensor([1 - 0.01 * number]),
        )
    evaluator.process(samples, None)
    return evaluator.evaluate(len(samples))


def test_the_metric_is_that_of_the_predictions(root):
    exact = measure(root, lambda number: np.zeros((3, 2)))
    assert exact == {f'keypoints/{name}': 100.0 for name in ('AP', 'AP50', 'AP75', 'AR', 'PCK@0.1', 'PCK@0.2')}
    moves = np.random.default_rng(0).normal(scale=1.5, size=(8, 3, 2))
    measured = measure(root, lambda number: moves[number])
    known = read_keypoints(root / 'annotations' / 'person_keypoints_val2017.json', root / 'val2017')
    truth = np.stack([one.keypoints for one in known.instances])
    found = truth[..., :2] + moves.astype(np.float32)
    boxes = np.array([one.box for one in known.instances])
    assert measured['keypoints/PCK@0.1'] == pytest.approx(pck(found, truth, boxes, 0.1)[0])
    assert measured['keypoints/PCK@0.2'] == pytest.approx(pck(found, truth, boxes, 0.2)[0])
    ids = [one.id for one in known.instances]
    averages = oks_average_precision(known.content, ids, found, 1 - 0.01 * np.arange(8), known.kind.sigmas)
    assert measured['keypoints/AP'] == pytest.approx(averages['AP']) and 5 < averages['AP'] < 95
    assert measured['keypoints/AR'] == pytest.approx(averages['AR'])


def test_a_part_of_the_data_is_measured_by_itself(root):
    assert measure(root, lambda number: np.zeros((3, 2)), indices=3)['keypoints/AP'] == 100


def test_nothing_predicted_is_zero(root):
    metric = KeypointMetric()
    metric.dataset_meta = folder(root, 'val').metainfo
    assert metric.compute_metrics([]) == {name: 0.0 for name in ('AP', 'AP50', 'AP75', 'AR', 'PCK@0.2')}
    with pytest.raises(UsageError, match=r'KeypointMetric\.thresholds\[0\] is 0'):
        KeypointMetric((0,))


def test_a_sample_of_the_data_set_is_an_element(root):
    assert isinstance(folder(root)[0]['data_samples'], BaseDataElement)
