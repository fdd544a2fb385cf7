"""What the command line tells a downstream config: checkpoint, classes, data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from mstkit.engine.config.downstream_options import match_classes, set_num_classes, set_pretrained
from mstkit.engine.launch.launch import load_config
from mstkit.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
DOWNSTREAM = ROOT / 'configs' / 'downstream'
CLASSIFIER = DOWNSTREAM / 'mmpretrain' / 'vit-tiny_folder.py'
DETECTOR = DOWNSTREAM / 'mmdet' / 'mask-rcnn_vit-tiny_sfp_folder.py'


def toy_image(path: Path, size: tuple[int, int] = (24, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size, (90, 120, 200)).save(path)


def test_checkpoint_and_branch_go_to_the_hook():
    config = Config(dict(default_hooks=dict(pretrained=dict(type='mstkit.PretrainedBackboneHook', checkpoint=None))))
    assert set_pretrained(config, 'a.pth', None) == ['pretrained: the student of a.pth']
    assert set_pretrained(config, None, 'teacher') == ['pretrained: the teacher of a.pth']
    assert config.default_hooks.pretrained == dict(
        type='mstkit.PretrainedBackboneHook', checkpoint='a.pth', branch='teacher'
    )


@pytest.mark.parametrize('hooks', [None, {}, dict(logger=dict(type='LoggerHook'))])
def test_a_pre_training_gets_the_hook(hooks):
    config = Config(dict(default_hooks=hooks))
    assert set_pretrained(config, 'a.pth', 'teacher') == ['pretrained: the teacher of a.pth']
    hook = dict(type='mstkit.PretrainedBackboneHook', checkpoint='a.pth', branch='teacher')
    assert config.default_hooks == {**(hooks or {}), 'pretrained': hook}


def test_another_hook_of_that_name_is_refused():
    config = Config(dict(default_hooks=dict(pretrained=dict(type='LoggerHook'))))
    with pytest.raises(
        UsageError, match=r'--pretrained a\.pth: default_hooks\.pretrained of this config is a LoggerHook'
    ):
        set_pretrained(config, 'a.pth', None)


def test_a_number_of_classes_goes_everywhere():
    heads = [dict(type='FCNHead', num_classes=19), dict(type='FCNHead', num_classes=19)]
    config = Config(dict(model=dict(decode_head=dict(num_classes=19), auxiliary_head=heads, backbone=dict(depth=3))))
    (line,) = set_num_classes(config, 7)
    assert [head.num_classes for head in config.model.auxiliary_head] == [7, 7]
    assert config.model.decode_head.num_classes == 7 and config.model.backbone == dict(depth=3)
    assert line == '7 classes for model.decode_head, model.auxiliary_head.0, model.auxiliary_head.1'
    with pytest.raises(UsageError, match='not 0'):
        set_num_classes(config, 0)
    with pytest.raises(UsageError, match='nothing in this config'):
        set_num_classes(Config(dict(model=dict(backbone=dict()))), 3)


def test_names_of_other_classes_go():
    scenes = DOWNSTREAM / 'demo' / 'setr_vit-nano_scenes.py'
    config = Config.fromfile(scenes)
    with DefaultScope.overwrite_default_scope('mmseg'):
        names_stay_and_go(config)


def names_stay_and_go(config: Config) -> None:
    set_num_classes(config, 11)
    assert len(config.train_dataloader.dataset.metainfo.classes) == 11
    set_num_classes(config, 5)
    for loader in (config.train_dataloader, config.val_dataloader):
        assert loader.dataset.num_classes == 5 and 'classes' not in loader.dataset.metainfo


def test_class_folders_decide_the_head(tmp_path):
    for split in ('train', 'val'):
        for name in ('rose', 'tulip', 'daisy'):
            toy_image(tmp_path / split / name / 'deep' / '0.png')
    (tmp_path / 'train' / 'empty').mkdir()
    config, notes = load_config(CLASSIFIER, data_root=str(tmp_path))
    assert config.model.head.num_classes == config.model.data_preprocessor.num_classes == 3
    for loader in (config.train_dataloader, config.val_dataloader):
        assert loader.dataset.metainfo.classes == ('daisy', 'rose', 'tulip')
    assert any(note.startswith('3 classes for model.head') for note in notes)


def test_pretraining_asks_no_data_set_for_its_classes(tmp_path):
    config = Config(dict(model=dict(type='DINO'), train_dataloader=dict(dataset=dict(type='ImageFolder'))))
    assert match_classes(config) == []
    assert 'metainfo' not in config.train_dataloader.dataset


def test_coco_annotations_decide_heads_and_metric(tmp_path):
    categories = [dict(id=4, name='cup'), dict(id=2, name='bowl')]
    for split in ('train', 'val'):
        toy_image(tmp_path / f'{split}2017' / 'a.png')
        square = dict(id=1, image_id=1, category_id=4, bbox=[2, 2, 9, 9], area=81, iscrowd=0)
        square['segmentation'] = [[2, 2, 11, 2, 11, 11, 2, 11]]
        content = dict(images=[dict(id=1, file_name='a.png', width=24, height=20)], annotations=[square])
        file = tmp_path / 'annotations' / f'instances_{split}2017.json'
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(dict(content, categories=categories)))
    config, _ = load_config(DETECTOR, data_root=str(tmp_path))
    assert config.model.roi_head.bbox_head.num_classes == config.model.roi_head.mask_head.num_classes == 2
    assert config.train_dataloader.dataset.metainfo.classes == ('bowl', 'cup')
    assert Path(config.val_evaluator.ann_file) == tmp_path / 'annotations' / 'instances_val2017.json'
    assert config.default_scope == 'mmdet'
