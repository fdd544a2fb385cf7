"""Small runs of the demo configs, and the pre-training whose backbone they start from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.runner import Runner

from mstkit.engine.launch.launch import build_runner, load_config
from mstkit.scenes.scene_files import ensure_scenes

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / 'configs' / 'downstream' / 'demo'
PRETRAINING = ROOT / 'configs' / 'demo' / 'mst_vit-nano_scenes.py'
SIZE = 64  # px, of the scenes
ARCH: dict[str, Any] = {
    f'model.backbone.arch.{key}': value
    for key, value in dict(embed_dims=48, num_layers=3, num_heads=3, feedforward_channels=96).items()
}
WITHOUT_WORKERS = {
    f'{name}_dataloader.{key}': value
    for name in ('train', 'val', 'test')
    for key, value in dict(num_workers=0, persistent_workers=False).items()
}
_COUNT = count()


class Task(NamedTuple):
    """A demo config, made small.

    Attributes:
        config: the file.
        options: for ``--cfg-options``; they make the network narrow and the steps large.
        length: ``epochs`` or ``iterations``, as :func:`mstkit.engine.launch.launch.load_config` takes it.
        files: whether it reads the scenes from a folder.
        middle: a checkpoint that is written before the last one.
        last: the last one.
    """

    config: Path
    options: dict[str, Any]
    length: dict[str, int]
    files: bool
    middle: str
    last: str


CLASSIFICATION = Task(
    DEMO / 'classifier_vit-nano_scenes.py',
    {
        'model.head.in_channels': 48,
        'train_dataloader.dataset.num_images': 32,  # one batch
        'train_dataloader.dataset.pipeline.0.crop_ratio_range': (1.0, 1.0),  # the same image every time
        'train_dataloader.dataset.pipeline.1.prob': 0.0,
        'val_dataloader.dataset.num_images': 40,
        'test_dataloader.dataset.num_images': 40,
        'optim_wrapper.optimizer.lr': 4e-3,
        'train_cfg.val_interval': 15,
    },
    dict(epochs=15),
    files=False,
    middle='epoch_14.pth',
    last='epoch_15.pth',
)
_TRAIN_SCENES = {
    # Of scenes that it was not trained on, so short a training finds nothing: an AP of 0 is no number to compare.
    f'{name}_dataloader.dataset.{key}': value
    for name in ('val', 'test')
    for key, value in {
        'ann_file': 'annotations/instances_train2017.json',
        'data_prefix.img': 'train2017',
        'indices': 4,
    }.items()
}
DETECTION = Task(
    DEMO / 'mask-rcnn_vit-nano_scenes.py',
    {
        'model.neck.in_channels': 48,
        'model.neck.out_channels': 32,
        'model.rpn_head.in_channels': 32,
        'model.rpn_head.feat_channels': 32,
        'model.roi_head.bbox_roi_extractor.out_channels': 32,
        'model.roi_head.bbox_head.in_channels': 32,
        'model.roi_head.bbox_head.fc_out_channels': 64,
        'model.roi_head.mask_roi_extractor.out_channels': 32,
        'model.roi_head.mask_head.in_channels': 32,
        'model.roi_head.mask_head.conv_out_channels': 32,
        'model.train_cfg.rpn_proposal.max_per_img': 50,
        'model.train_cfg.rcnn.sampler.num': 32,
        'model.test_cfg.rpn.max_per_img': 50,
        'model.test_cfg.rcnn.score_thr': 0.0,
        'train_dataloader.batch_size': 2,
        'train_dataloader.dataset.indices': 4,
        **_TRAIN_SCENES,
        'val_evaluator.ann_file': 'work_dirs/scenes/annotations/instances_train2017.json',
        'test_evaluator.ann_file': 'work_dirs/scenes/annotations/instances_train2017.json',
        'optim_wrapper.optimizer.lr': 4e-3,
        'train_cfg.val_interval': 6,
    },
    dict(epochs=6),
    files=True,
    middle='epoch_5.pth',
    last='epoch_6.pth',
)
_HEADS = {
    f'model.{head}.{key}': value
    for head in ('decode_head', 'auxiliary_head.0', 'auxiliary_head.1')
    for key, value in dict(in_channels=48, channels=16).items()
}
SEGMENTATION = Task(
    DEMO / 'setr_vit-nano_scenes.py',
    {
        'model.backbone.out_indices': (0, 1, 2),
        'model.backbone.img_size': SIZE,
        'model.data_preprocessor.size': (SIZE, SIZE),
        'model.test_cfg.crop_size': (SIZE, SIZE),
        **_HEADS,
        'train_dataloader.batch_size': 8,
        'train_dataloader.dataset.indices': 8,
        'train_dataloader.dataset.pipeline.3.crop_size': (SIZE, SIZE),
        'optim_wrapper.optimizer.lr': 5e-3,
        'default_hooks.checkpoint.interval': 5,
    },
    dict(iterations=20),
    files=True,
    middle='iter_15.pth',
    last='iter_20.pth',
)
TASKS = dict(classification=CLASSIFICATION, detection=DETECTION, segmentation=SEGMENTATION)


class Trained(NamedTuple):
    """A finished run of a task."""

    task: Task
    work_dir: Path
    losses: list[float]
    validated: dict[str, float]

    @property
    def middle(self) -> Path:
        return self.work_dir / self.task.middle

    @property
    def last(self) -> Path:
        return self.work_dir / self.task.last


def write_scenes(folder: Path) -> Path:
    return ensure_scenes(folder, train=16, val=6, size=SIZE)


def pretrain(work_dir: Path) -> Path:
    """One step of the demo's pre-training, large enough for student and teacher to differ; returns the checkpoint."""
    options = {
        **ARCH,
        'model.neck.out_dim': 32,
        'model.neck.hidden_dim': 32,
        'model.decoder.channels': 8,
        'train_dataloader.batch_size': 8,
        'train_dataloader.dataset.num_images': 8,
        'param_scheduler': [],
        'default_hooks.knn': None,
        'default_hooks.panels': None,
        'default_hooks.checkpoint.interval': 1,
    }
    build_runner(load_config(PRETRAINING, options, work_dir=str(work_dir), epochs=1)[0]).train()
    return work_dir / 'epoch_1.pth'


def load(task: Task, work_dir: Path, scenes: Path, **arguments: Any) -> Config:
    """A task's config as ``tools/train.py`` reads it, small; ``arguments`` are those of ``load_config``."""
    options = {**ARCH, **WITHOUT_WORKERS, **task.options, 'param_scheduler': [], **arguments.pop('cfg_options', {})}
    options['optim_wrapper.precision'] = 'fp32'  # the same on every machine
    # Two runs of the same second would share mmengine's message hub.
    options['experiment_name'] = f'downstream{next(_COUNT)}'
    arguments = {**(dict(data_root=str(scenes)) if task.files else {}), **task.length, **arguments}
    return load_config(task.config, options, work_dir=str(work_dir), **arguments)[0]


def environment(folder: Path) -> dict[str, str]:
    """Of a new interpreter that runs as the tests do: one thread, no windows, configs without yapf's line breaks.

    Args:
        folder: is given a module that stands for yapf, which takes most of a second when a run writes its config.
    """
    stand_in = folder / 'yapf' / 'yapflib' / 'yapf_api.py'
    stand_in.parent.mkdir(parents=True)
    stand_in.write_text('def FormatCode(text, **_):\n    return text, False\n', encoding='utf-8')
    (folder / 'yapf' / '__init__.py').write_text("__version__ = '1.0'\n", encoding='utf-8')
    paths = os.pathsep.join(filter(None, (str(folder), os.environ.get('PYTHONPATH'))))
    return {**os.environ, 'OMP_NUM_THREADS': '1', 'MPLBACKEND': 'Agg', 'PYTHONPATH': paths}


def words(options: Mapping[str, Any]) -> list[str]:
    """For ``--cfg-options``, as a shell would pass them."""
    return [f'{key}={value}'.replace(' ', '') for key, value in options.items()]


def train(config: Config) -> Runner:
    runner = build_runner(config)
    runner.train()
    return runner


def log_of(work_dir: Path) -> str:
    """What the runs in a work dir said."""
    return ''.join(path.read_text(encoding='utf-8') for path in sorted(work_dir.glob('*/*.log')))


def losses_of(runner: Runner) -> list[float]:
    """Of every iteration, those before a resume too."""
    return runner.message_hub.get_scalar('train/loss').data[0].tolist()
