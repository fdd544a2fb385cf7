"""What is read from mmengine's logs."""

from __future__ import annotations

import json

import pytest
from mmengine.config import Config

from mstkit.engine.launch.launch import build_runner, load_config
from mstkit.experiments.job import newest

from ..test_downstream_configs import reduced
from .toy_transfer import CONFIGS, DETECTED, NOTHING_DETECTED, TRAINING, log, make_run


def test_metrics_in_percent_by_step(tmp_path):
    run = make_run(tmp_path)
    assert run.curves() == {'box AP': {}, 'mask AP': {}} and newest(run.curves()) is None
    log(run, (1, DETECTED), (2, {'coco/bbox_mAP': 0.5, 'coco/segm_mAP': 0.25}))
    assert run.curves() == {'box AP': {1: 12.5, 2: 50.0}, 'mask AP': {1: 10.0, 2: 25.0}}
    assert newest(run.curves()) == 2
    assert run.headline() == 'epoch 2 of 2: box AP 50.0, mask AP 25.0'
    pixels = make_run(tmp_path, 'segmentation', length=500, unit='iteration')
    log(pixels, (250, dict(mIoU=12.25, mAcc=20.0, aAcc=81.0)))
    assert pixels.headline() == 'iteration 250 of 500: mIoU 12.2, mAcc 20.0, aAcc 81.0'


def test_processes_one_after_the_other(tmp_path):
    """What was measured again after a resume counts; the last line of a killed process is cut off."""
    run = make_run(tmp_path, 'classification', length=4)
    log(run, (1, {'accuracy/top1': 10.0}), (2, {'accuracy/top1': 20.0}), stamp='20260101_000000', more='{"accuracy/t')
    log(run, (2, {'accuracy/top1': 21.0}), (3, {'accuracy/top1': 30.0}), stamp='20260101_000500', more='\n[1]\n7\n')
    (tmp_path / 'elsewhere' / 'vis_data').mkdir(parents=True)
    assert run.curves() == {'top-1': {1: 10.0, 2: 21.0, 3: 30.0}}
    assert list(run.curves()['top-1']) == [1, 2, 3]


def test_a_validation_without_detections_has_an_ap_of_zero(tmp_path):
    run = make_run(tmp_path)
    log(run, (1, NOTHING_DETECTED), (2, DETECTED))
    assert run.curves() == {'box AP': {1: 0.0, 2: 12.5}, 'mask AP': {1: 0.0, 2: 10.0}}
    only = make_run(tmp_path, seed=1)
    log(only, (1, NOTHING_DETECTED), (2, NOTHING_DETECTED))
    assert only.curves() == {'box AP': {1: 0.0, 2: 0.0}, 'mask AP': {1: 0.0, 2: 0.0}}
    assert only.complaint() is None
    boxes = make_run(tmp_path, seed=2)
    log(boxes, (1, NOTHING_DETECTED), (2, {'coco/bbox_mAP': 0.5}))
    assert boxes.curves() == {'box AP': {1: 0.0, 2: 50.0}, 'mask AP': {}}, 'a detector without masks'


def test_what_was_not_measured_is_no_zero(tmp_path):
    """Lines of training, other toolboxes' validations, other hooks' numbers, NaN, and mmdet's -1."""
    trained = make_run(tmp_path)
    log(trained, more=json.dumps({**TRAINING, 'iter': 50, 'step': 50}) + '\n')
    assert trained.curves() == {'box AP': {}, 'mask AP': {}}
    assert trained.complaint() == 'it ended without having measured anything'
    images = make_run(tmp_path, 'classification')
    log(images, (1, {}), (2, {'accuracy/top1': float('nan')}))
    assert images.curves() == {'top-1': {}}
    nothing_there = make_run(tmp_path, seed=1)
    log(nothing_there, (1, {'coco/bbox_mAP': -1.0, 'coco/segm_mAP': -1.0}), more='{"queue": 7, "step": 3}\n')
    assert newest(nothing_there.curves()) is None


@pytest.mark.parametrize(('length', 'unit', 'last'), [(4, 'epoch', 2), (500, 'iteration', 250)])
def test_the_end_has_to_be_measured(tmp_path, length, unit, last):
    """A run that was stopped before its last validation would else be shown with an earlier number."""
    run = make_run(tmp_path, 'classification', length=length, unit=unit)
    log(run, (last, {'accuracy/top1': 20.0}))
    assert run.complaint() == f'it was last measured at {unit} {last} of {length}'
    log(run, (last, {'accuracy/top1': 20.0}), (length, {'accuracy/top1': 30.0}))
    assert run.complaint() is None
    unknown = make_run(tmp_path, 'classification', seed=1, length=None)
    log(unknown, (150, {'accuracy/top1': 20.0}))
    assert unknown.complaint() is None
    assert unknown.headline() == 'epoch 150: top-1 20.0'


def test_mmengine_and_mmdet_write_what_is_read(tmp_path, scenes):
    """A detector that is sure of nothing, validated by the real runner."""
    config = Config.fromfile(CONFIGS['detection'])
    reduced(config)
    config.model.test_cfg.rcnn.score_thr = 0.99
    config.dump(tmp_path / 'tiny.py')
    run = make_run(tmp_path, config=tmp_path / 'tiny.py')
    loaded, _ = load_config(run.config, data_root=str(scenes), work_dir=str(run.folder))
    for loader in (loaded.train_dataloader, loaded.val_dataloader, loaded.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    build_runner(loaded).val()
    assert run.curves() == {'box AP': {0: 0.0}, 'mask AP': {0: 0.0}}
