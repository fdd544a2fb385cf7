"""Scores that a CachedGuide keeps, made by two processes whose shares differ in length, and of images in tar shards."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from mstkit.datasets import ImageFolder
from mstkit.datasets.shards.writer import write_shards
from mstkit.engine.hooks import GuideCacheHook
from mstkit.models import Pretrainer
from mstkit.registry import DATASETS, MODELS
from mstkit.structures import Progress
from tests.datasets.test_shards import images  # noqa: F401  (a fixture)
from tests.engine import running
from tests.engine.processes import in_ddp, in_parts, whole, wrapper_of
from tests.engine.test_masked_autoencoder_run import SCENES, VIEW, settings
from tests.models.builders import VIT

SIZES = (5, 1, 4)  # of two processes with batches of two: 2 and 1 batches, one without an image, as many
SIDE = 16


def mae(guide: str) -> Pretrainer:
    """Initialized, in training mode."""
    torch.manual_seed(5)
    built = MODELS.build(
        dict(
            type='MAE',
            backbone=dict(VIT, img_size=SIDE, patch_size=4),
            decoder=dict(embed_dims=24, num_layers=1, num_heads=2),
            masker=dict(type='AttMaskHigh', ratio=0.5, image_prob=1.0),
            guide=dict(type='CachedGuide', guide=guide),
            data_preprocessor=dict(mean=[127.5] * 3, std=[64.0] * 3),
        )
    )
    built.init_weights()
    with torch.no_grad():  # attention that is far from even, so that no rounding moves a mask
        for parameter in built.backbone.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    built.guide.copy_from(built.backbone)
    return built.train()


def refresh(model: Pretrainer, size: int) -> Tensor:
    """The maps of the first images of the scenes."""
    dataset = DATASETS.build(dict(SCENES, num_images=size, pipeline=VIEW))
    loader = SimpleNamespace(dataset=dataset, batch_size=2, num_workers=0)
    runner: Any = SimpleNamespace(
        model=model, train_loop=SimpleNamespace(dataloader=loader), epoch=0, logger=logging.getLogger('test')
    )
    GuideCacheHook._refresh(runner, model.guide)
    assert len(model.guide.maps) == size and model.guide.known.all()
    return model.guide.maps.clone()


def steps(rank: int, built: Pretrainer, run: Any) -> dict[str, Tensor]:
    """The weights after two steps on four images; one on rank 0 could not be read in the first, none in the second."""
    wrapper = wrapper_of(built)
    for step in range(2):
        progress = Progress(step, 4, 2, rank_seed=rank, iteration=step)
        built.set_progress(progress)
        wrapper.set_progress(progress)
        shown = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2 * step + rank))
        samples = [
            SimpleNamespace(sample_idx=2 * rank + place, view_boxes=[[0.1, 0.2, 0.5, 0.5, place]]) for place in (0, 1)
        ]
        if (rank, step) == (0, 0):
            samples[1].replaced = ['broken.jpg']
        with wrapper.optim_context(run):
            losses = run([shown], data_samples=samples, mode='loss')
        wrapper.update_params(built.parse_losses(losses)[0])
        built.after_step()
    return whole(built.state_dict())


def _rank(rank: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for guide in ('student', 'ema'):
        for kind, wrap in (('ddp', in_ddp), ('sharded', in_parts)):
            built = mae(guide)
            run = wrap(built)
            found[f'{guide} {kind}'] = [refresh(built, size) for size in SIZES]
            found[f'{guide} {kind} trained'] = steps(rank, built, run)
    return found


def test_processes_with_unequal_shares_make_the_maps_of_one(run_two):
    ranks = run_two(_rank)
    for guide in ('student', 'ema'):
        alone = [refresh(mae(guide), size) for size in SIZES]
        for found in ranks:
            for kind in ('ddp', 'sharded'):
                for maps, expected in zip(found[f'{guide} {kind}'], alone, strict=True):
                    torch.testing.assert_close(maps, expected, rtol=1e-2, atol=1e-3)
            for name, value in found[f'{guide} ddp trained'].items():
                torch.testing.assert_close(
                    found[f'{guide} sharded trained'][name], value, rtol=1e-4, atol=1e-5, msg=f'{guide} {name}'
                )


@pytest.mark.parametrize('sampler', ['EpochSampler', 'ShardSampler'])
def test_images_in_shards_have_the_maps_of_the_files(images: ImageFolder, tmp_path: Path, sampler: str):  # noqa: F811
    """Each its own, by whatever order the shards are read."""
    write_shards(images, tmp_path / 'shards' / 'train', max_samples=8)
    change = settings('MAE, kept scores', measured=False)
    pipeline = [dict(type='LoadRGB'), *VIEW]
    change['train_dataloader__dataset'] = dict(
        type='ShardDataset', data_root=str(tmp_path / 'shards'), pipeline=pipeline
    )
    runner = running.train(tmp_path / 'run', **change, train_dataloader__sampler=dict(type=sampler))
    guide, shards = runner.model.guide, runner.train_dataloader.dataset
    assert guide.refreshed_in == 2 and len(guide.maps) == len(images) and guide.known.all()
    samples = [sample for batch in runner.train_dataloader for sample in batch['data_samples']]
    assert samples and all(
        sample.img_path == shards.get_data_info(sample.sample_idx.origin)['img_path'] for sample in samples
    )
    GuideCacheHook._refresh(runner, guide)
    of_shards = {number_of(shards, index): kept for index, kept in enumerate(guide.maps)}
    files = ImageFolder(images.data_root, split='', pipeline=pipeline)
    runner.train_loop.dataloader = SimpleNamespace(dataset=files, batch_size=8, num_workers=0)
    GuideCacheHook._refresh(runner, guide)
    of_files = {number_of(files, index): kept for index, kept in enumerate(guide.maps)}
    assert guide.maps.float().std(dim=0).max() > 0.01, 'all maps are one'
    torch.testing.assert_close(of_shards, of_files, rtol=1e-2, atol=1e-3)


def number_of(dataset: Any, index: int) -> str:
    """The number at the end of the name of an image's file, which its member of a shard has too."""
    return Path(dataset.get_data_info(index)['img_path']).name[-len('017.png') :]
