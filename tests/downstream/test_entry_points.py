"""What mmdet, mmseg and mmpretrain offer for inference and for testing takes our configs and checkpoints."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain import ImageClassificationInferencer, get_model
from PIL import Image

from mstkit import toolbox
from mstkit.downstream import detection
from mstkit.engine.launch.launch import load_config
from mstkit.errors import UsageError
from mstkit.registry import TRANSFORMS
from mstkit.scenes.scene_classes import CLASSES

from .. import test_downstream_configs as small_configs
from .. import warm
from ..docs.pages import blocks
from . import running
from .running import ROOT, TASKS, WITHOUT_WORKERS

PAGE = ROOT / 'docs' / 'en' / 'transfer.md'
PACKAGE = dict(classification='mmpretrain', detection='mmdet', segmentation='mmseg')
METRIC = dict(classification='accuracy/top1', detection='coco/bbox_mAP', segmentation='aAcc')
EXAMPLES = dict(classification='ImageClassificationInferencer', detection='mmdet.apis', segmentation='mmseg.apis')
# Runs tools as Python would run them by their path (those of a package by "python -m"), and examples, one by one.
PROGRAM = """
import json, runpy, sys
from pathlib import Path
seen = {}
for example, tool in json.loads(Path('steps.json').read_text()):
    if tool[0] == '-m':
        sys.argv = tool[1:]
        runpy.run_module(tool[1], run_name='__main__')
    else:
        sys.argv = tool
        runpy.run_path(tool[0], run_name='__main__')
    exec(example, seen)
told = {}
if 'detector' in seen:
    told.update(detector=list(seen['detector'].dataset_meta['classes']), found=len(seen['found']))
else:
    facts = seen['inferencer'].visualizer.dataset_meta
    told.update(
        segmentor=list(seen['segmentor'].dataset_meta['classes']),
        drawn=[list(facts[key]) for key in ('classes', 'palette')],
        labels=list(seen['labels'].shape),
        classifier=list(seen['classifier'].classes),
        guess=seen['guess']['pred_scores'].tolist(),
    )
Path('told.json').write_text(json.dumps(told))
"""


def python(*command: str, cwd: Path, modules: Path) -> str:
    """Runs a program in an interpreter without mstkit, which finds it, and ``modules`` first; returns what it said."""
    environment = running.environment(modules)
    environment['PYTHONPATH'] += f'{os.pathsep}{ROOT}'
    result = subprocess.run(
        [warm.foundations_python(), *command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    said = result.stdout + result.stderr
    assert result.returncode == 0, said[-3000:]
    return said


def copy_of_the_config(work_dir: Path) -> Path:
    (path,) = work_dir.glob('*.py')
    return path


def test_a_checkpoint_carries_the_classes(trained):
    facts = torch.load(trained.last, weights_only=True)['meta']['dataset_meta']
    names = list(CLASSES) if trained.task is not TASKS['segmentation'] else ['background', *CLASSES]
    assert list(facts['classes']) == names
    if trained.task is not TASKS['classification']:
        assert len({tuple(color) for color in facts['palette']}) == len(names)


# mmdet's tool imports mmcv's operators before it reads a config, hence "mstkit.toolbox".
# The others meet a process in which nobody has imported mstkit.
@pytest.mark.parametrize('names', [['detection'], ['segmentation', 'classification']], ids='-'.join)
def test_tools_and_examples_of_the_documentation(names, train, tmp_path):
    """The tools measure what the run validated, and the inferencers know the classes."""
    steps, image = [], None
    for name in names:
        trained = train(name)
        folder, copy = tmp_path / 'work_dirs' / trained.task.config.stem, copy_of_the_config(trained.work_dir)
        folder.mkdir(parents=True)
        (folder / copy.name).symlink_to(copy)
        example = next(body for body in blocks(PAGE, 'python') if EXAMPLES[name] in body)
        (checkpoint,) = re.findall(r'(?:epoch|iter)_\d+\.pth', example)
        (folder / checkpoint).symlink_to(trained.last)
        by_path = [str(toolbox.find_tool(PACKAGE[name], 'test'))]
        tool = ['-m', 'mstkit.toolbox', 'mmdet', 'test'] if name == 'detection' else by_path
        steps.append((example, [*tool, str(folder / copy.name), str(trained.last), '--work-dir', 'here']))
        image = min((trained.work_dir.parent / 'scenes' / 'val2017').iterdir())
    Image.open(image).save(tmp_path / 'image.png')
    (tmp_path / 'steps.json').write_text(json.dumps(steps))
    said = python('-c', PROGRAM, cwd=tmp_path, modules=tmp_path / 'modules')
    told = json.loads((tmp_path / 'told.json').read_text())
    for name in names:
        (wanted,) = [value for key, value in train(name).validated.items() if key == METRIC[name]]
        *_, measured = re.findall(rf'{METRIC[name]}: ([\d.]+)', said)
        assert float(measured) == pytest.approx(wanted, abs=1e-4)
        assert list((tmp_path / 'predictions' / name).rglob('*.[pj][np]g')), f'{name} drew nothing'
    if 'detection' in names:
        assert told['detector'] == list(CLASSES) and told['found'] > 0
        return
    assert told['classifier'] == list(CLASSES)
    assert told['segmentor'] == told['drawn'][0] == ['background', *CLASSES]
    assert len(told['drawn'][1]) == 11 and told['labels'] == [1, running.SIZE, running.SIZE]
    assert told['guess'] == pytest.approx(scores_of(train('classification'), image), abs=1e-4)


def test_mmdet_that_has_met_mmcv_without_operators_is_refused(monkeypatch):
    """Its fallbacks stay; only a new process helps."""
    from mmdet.models.dense_heads import rpn_head

    def batched_nms(*_):
        raise RuntimeError

    batched_nms.__module__ = rpn_head.__name__
    monkeypatch.setattr(rpn_head, 'batched_nms', batched_nms)
    with pytest.raises(ImportError, match=r'before mmcv had its operators: put "import mstkit\.downstream" at the top'):
        importlib.reload(detection)
    monkeypatch.undo()
    importlib.reload(detection)


def scores_of(trained: running.Trained, image: Path) -> list[float]:
    """What the network says of an image that was read as the data sets read it."""
    config = Config.fromfile(copy_of_the_config(trained.work_dir))
    sample = dict(img_path=str(image), sample_idx=0)
    for step in config.test_pipeline:
        sample = TRANSFORMS.build(step).transform(sample)
    network = get_model(config, str(trained.last), device='cpu')
    with torch.no_grad():
        (result,) = network.test_step(dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']]))
    return result.pred_score.tolist()


def test_swin_classifies_images_in_the_right_colors(tmp_path):
    """An orange image is orange to the network, whichever way it was read."""
    for split, label, color in [
        (s, c, p) for s in ('train', 'val') for c, p in (('a', (250, 120, 0)), ('b', (9, 9, 90)))
    ]:
        folder = tmp_path / 'data' / split / label
        folder.mkdir(parents=True)
        Image.fromarray(np.full((60, 80, 3), color, np.uint8)).save(folder / 'image.png')
    options = {
        **WITHOUT_WORKERS,
        'train_dataloader.batch_size': 2,
        'val_evaluator.topk': (1,),
        'experiment_name': 'swin',
    }
    path = ROOT / 'configs' / 'downstream' / 'mmpretrain' / 'swin-t_100e_imagenet.py'
    config, _ = load_config(path, options, str(tmp_path / 'data'), str(tmp_path / 'run'), epochs=1)
    small_configs.reduced(config)
    config.param_scheduler, config.train_cfg.val_interval = [], 2
    runner = running.train(config)
    inferencer = ImageClassificationInferencer(
        str(tmp_path / 'run' / path.name), str(tmp_path / 'run' / 'epoch_1.pth'), device='cpu'
    )
    assert tuple(inferencer.classes) == ('a', 'b')
    file = tmp_path / 'data' / 'val' / 'a' / 'image.png'
    sample = runner.val_dataloader.dataset[0]
    assert sample['data_samples'].img_path == str(file)
    with torch.no_grad():
        (own,) = runner.model.eval().test_step(dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']]))
    (found,) = inferencer(str(file))
    np.testing.assert_allclose(found['pred_scores'], own.pred_score.numpy(), atol=1e-5)


def test_tools_that_are_not_there():
    assert toolbox.find_tool('mmseg', 'analysis_tools/get_flops.py').is_file()
    with pytest.raises(UsageError, match=r"mmdet has no tool 'tets'\. Did you mean test"):
        toolbox.find_tool('mmdet', 'tets')
    with pytest.raises(UsageError, match=r"mmdet has no tool '\.\./\.\./__init__'"):
        toolbox.find_tool('mmdet', '../../__init__')
    with pytest.raises(UsageError, match="'mmpose' is none of mmdet, mmseg, mmpretrain"):
        toolbox.find_tool('mmpose', 'test')
