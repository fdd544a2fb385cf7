"""The trainings that are broken: of a few seconds, with k-NN, panels and checkpoints inside epochs."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from mstkit.datasets import ImageFolder
from mstkit.datasets.shards.writer import write_shards
from mstkit.interop import read_checkpoint
from mstkit.scenes import BuiltinScenes
from tests.engine.running import same
from tests.programs import ROOT

EPOCHS, CLASSES = 3, 4
SMALL = (
    'model.backbone.arch.embed_dims=32',
    'model.backbone.arch.num_layers=2',
    'model.backbone.arch.num_heads=2',
    'model.backbone.arch.feedforward_channels=64',
    'train_dataloader.batch_size=8',
    'train_dataloader.num_workers=1',
    'default_hooks.knn.interval=1',
    'default_hooks.knn.num_workers=0',
    'default_hooks.panels.interval=2',
    'default_hooks.checkpoint.by_epoch=False',
    'default_hooks.checkpoint.interval=3',
    'default_hooks.logger.interval=2',
)
DISTILLS = ('model.neck.out_dim=32', 'model.neck.hidden_dim=32', 'model.neck.bottleneck_dim=16')


@dataclass(frozen=True)
class SmallRun:
    """A training.

    Attributes:
        name: of it.
        config: below configs/.
        options: for --cfg-options.
        ranks: processes that train together.
        below: folder below that of the images whose data are trained with.
    """

    name: str
    config: str
    options: tuple[str, ...] = ()
    ranks: int = 1
    below: str = ''

    def words(self, images: Path, work_dir: Path, *more: str) -> list[str]:
        """Of the command line."""
        options = ['--cfg-options', *SMALL, *self.options]
        return [
            str(ROOT / 'configs' / self.config),
            *('--data-root', str(images / self.below), '--work-dir', str(work_dir)),
            *('--epochs', str(EPOCHS), '--seed', '0'),
            *more,
            *options,
        ]


DECODES = ('model.decoder.embed_dims=16', 'model.decoder.num_layers=1', 'model.decoder.num_heads=2')
BY_EPOCHS = ('default_hooks.checkpoint.by_epoch=True', 'default_hooks.checkpoint.interval=1')
MST, MAE = 'mst/mst_vit-tiny_folder.py', 'mae/mae_vit-tiny_folder.py'
SHARDS = 'shards'
IN_SHARDS = (
    'train_dataloader.dataset.type=ShardDataset',
    'train_dataloader.sampler.type=ShardSampler',
    'train_dataloader.sampler.shuffle_buffer=20',
    'default_hooks.knn.train_dataset.type=ShardDataset',
    'default_hooks.knn.val_dataset.type=ShardDataset',
)
MOBY = SmallRun('MoBY', 'moby/moby_vit-tiny_folder.py', ('model.head.queue_size=64',))
RUNS = (
    SmallRun('MST', MST, DISTILLS),
    SmallRun('MAE', MAE, DECODES),
    MOBY,
    SmallRun('MST, accumulated', MST, (*DISTILLS, 'optim_wrapper.accumulative_counts=2')),
    SmallRun('MST, saved by epochs', MST, (*DISTILLS, *BY_EPOCHS)),
    SmallRun('MAE, two processes', MAE, DECODES, ranks=2),
    SmallRun('MST, tar shards', MST, (*DISTILLS, *IN_SHARDS), below=SHARDS),
    SmallRun('MST, two processes', MST, DISTILLS, ranks=2),
    replace(MOBY, name='MoBY, two processes', ranks=2),
    SmallRun('MAE, tar shards, two processes', MAE, (*DECODES, *IN_SHARDS), ranks=2, below=SHARDS),
    SmallRun('MST, sharded model, two processes', MST, (*DISTILLS, 'model_wrapper_cfg.type=FullyShard'), ranks=2),
)


def write_images(folder: Path, train: int = 96, val: int = 24) -> Path:
    """Writes scenes of some classes, as a folder for the recipes for folders, and the same in tar shards below it."""
    for split, count in (('train', train), ('val', val)):
        scenes = BuiltinScenes(split=split, num_images=count * 4, image_size=48)
        kept = 0
        for index in range(len(scenes)):
            sample = scenes[index]
            label = int(sample['gt_label'])
            if label < CLASSES and kept < count:
                kept += 1
                (folder / split / str(label)).mkdir(parents=True, exist_ok=True)
                Image.fromarray(sample['img']).save(folder / split / str(label) / f'{index:03d}.png')
    for split in ('train', 'val'):
        write_shards(ImageFolder(folder, split), folder / SHARDS / split, max_samples=16)
    return folder


def last_checkpoint(work_dir: Path) -> dict[str, Any]:
    """The content of the newest one."""
    return read_checkpoint((work_dir / 'last_checkpoint').read_text())


def difference(one: dict[str, Any], other: dict[str, Any]) -> str | None:
    """The first part of two checkpoints in which they differ, to the bit; None if they do not."""
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        if not same(one[part], other[part]):
            return part
    for key in ('epoch', 'iter'):
        if one['meta'][key] != other['meta'][key]:
            return key
    return None


def broken_files(work_dir: Path) -> list[str]:
    """Files in a work dir that are not whole, but for the hidden ones that the next start removes."""
    found = []
    for file in sorted(work_dir.rglob('*')):
        spread = file.suffix == '.dcp'
        if not (file.is_file() or spread) or file.name.startswith('.') or file.parent.suffix == '.dcp':
            continue
        try:
            if spread:
                read_checkpoint(file)
            elif file.suffix == '.pth':
                torch.load(file, weights_only=True)
            elif file.suffix == '.png':
                with Image.open(file) as image:
                    image.load()
            elif file.suffix == '.json' and 'vis_data' not in file.parts:
                json.loads(file.read_text())
            elif file.suffix == '.jsonl' or file.suffix == '.json':  # mmengine's are lines too
                for line in file.read_text().splitlines():
                    json.loads(line)
        except Exception as error:  # whatever a reader makes of it
            found.append(f'{file.relative_to(work_dir)} ({type(error).__name__}: {error})')
    return found
