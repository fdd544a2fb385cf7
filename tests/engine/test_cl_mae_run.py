"""CL-MAE under the runner: its network resumed to the bit, drawn and logged; each process by its own images' pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from mstkit.registry import MODELS
from mstkit.structures import Progress
from mstkit.visualization.step_panels import columns_of

from . import running
from .test_resume import MID_EPOCH, interrupt

SIZE = 16
BACKBONE = dict(
    type='MaskedVisionTransformer',
    arch=dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48),
    img_size=SIZE,
    patch_size=4,
)
MODEL: dict[str, Any] = dict(
    type='CLMAE',
    decoder=dict(embed_dims=16, num_layers=1, num_heads=2),
    network=dict(num_layers=1, lr_mult=0.5),
    data_preprocessor=dict(type='ViewDataPreprocessor', mean=[127.5] * 3, std=[64.0] * 3),
)
ONE_VIEW = [
    dict(type='MultiCrop', global_crops=dict(size=SIZE, count=1), local_crops=dict(count=0)),
    dict(type='PackViews'),
]


def test_drawn_and_resumed_inside_an_epoch(tmp_path: Path) -> None:
    scenes = dict(type='BuiltinScenes', split='train', num_images=16, image_size=32, pipeline=ONE_VIEW)
    settings = dict(
        model=dict(MODEL, backbone=dict(BACKBONE, drop_path_rate=0.2)),
        train_dataloader__dataset=scenes,
        optim_wrapper__freeze_last_layer_epochs=0,
        default_hooks__checkpoint=MID_EPOCH,
        default_hooks__panels=dict(type='PanelHook', interval=1, num_images=2),
        custom_hooks=[dict(type='ProgressHook'), dict(type='CollapseMonitorHook', num_images=8)],
    )
    running.train(tmp_path / 'whole', **settings)
    interrupt(tmp_path / 'cut', 6, **settings)
    running.train(tmp_path / 'cut', resume=True, **settings)
    assert running.same_state(tmp_path / 'whole' / 'iter_12.pth', tmp_path / 'cut' / 'iter_12.pth')
    first, last = (torch.load(tmp_path / 'whole' / f'iter_{n}.pth', weights_only=True)['state_dict'] for n in (1, 12))
    moved = {key for key in last if not torch.equal(first[key], last[key])}
    assert {'objectives.hide.network.visibility.weight', 'objectives.predict.decoder.predict.weight'} <= moved
    with Image.open(tmp_path / 'whole' / 'panels' / 'epoch_003.png') as sheet:
        titles = columns_of(sheet)
    assert 'visibility' in [title.split(' (')[0] for title in titles]
    assert 'attention (learnedmask)' in titles
    records = [json.loads(line) for line in (tmp_path / 'whole' / 'collapse.jsonl').read_text().splitlines()]
    assert [record['mask_factor'] for record in records] == pytest.approx([1, 1 / 3, -1])
    for record in records:
        assert 0 < record['mask_visibility'] < 1 and 0 <= record['mask_decided'] <= 1
        assert 0 < record['mask_likeness'] <= 1 and record['mask_error'] > 0


def gradients_on_rank(rank: int, ranks: int, alone: int | None = None) -> list[Tensor]:
    """Of a step on this rank's share of four images, within DDP if there are several ranks."""
    torch.manual_seed(0)
    model = MODELS.build(dict(MODEL, backbone=BACKBONE))
    model.init_weights()
    wrapped = DistributedDataParallel(model, static_graph=model.static_graph) if ranks > 1 else model
    images = torch.randn(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    share = images[2 * rank :][:2] if alone is None else images[2 * alone :][:2]
    for iteration in range(2):
        model.zero_grad()
        model.set_progress(Progress(iteration, 10, 5, iteration=iteration))
        losses = wrapped([share], mode='loss')
        sum(losses.values()).backward()
    return [parameter.grad for parameter in model.parameters() if parameter.requires_grad]


def test_two_processes_take_the_mean_of_both(run_two) -> None:
    """All terms are of the images of a process, as in its code; the wrapper averages both networks' gradients."""
    first, second = run_two(gradients_on_rank, 2)
    shares = [gradients_on_rank(0, 1, alone) for alone in (0, 1)]
    for one, other, *alone in zip(first, second, *shares, strict=True):
        assert torch.equal(one, other)
        torch.testing.assert_close(one, (alone[0] + alone[1]) / 2, rtol=1e-4, atol=1e-7)
