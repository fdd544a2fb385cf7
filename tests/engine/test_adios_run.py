"""ADIOS under the runner: both networks resumed to the bit, masks drawn and logged; two processes as one."""

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
    type='ADIOS',
    occlusion=dict(masks=3, channels=8, blocks=3, bottleneck=4, lr_mult=0.5),
    hidden_dim=24,
    out_dim=16,
    data_preprocessor=dict(type='ViewDataPreprocessor', mean=[127.5] * 3, std=[64.0] * 3),
)
TWO_VIEWS = [
    dict(type='MultiCrop', global_crops=dict(size=SIZE), local_crops=dict(count=0)),
    dict(type='PackViews'),
]


@pytest.mark.parametrize('single', [False, True])
def test_drawn_and_resumed_inside_an_epoch(tmp_path: Path, single: bool) -> None:
    scenes = dict(type='BuiltinScenes', split='train', num_images=16, image_size=32, pipeline=TWO_VIEWS)
    settings = dict(
        model=dict(MODEL, backbone=dict(BACKBONE, drop_path_rate=0.2), single=single),
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
    assert {'objectives.adversarial.occlusion.to_masks.weight', 'objectives.adversarial.projector.0.weight'} <= moved
    with Image.open(tmp_path / 'whole' / 'panels' / 'epoch_003.png') as sheet:
        titles = columns_of(sheet)
    assert [title.split(' (')[0] for title in titles] == ['input', 'mask 1', 'mask 2', 'mask 3']
    records = [json.loads(line) for line in (tmp_path / 'whole' / 'collapse.jsonl').read_text().splitlines()]
    for record in records:
        assert sum(record[f'mask_share_{n}'] for n in (1, 2, 3)) == pytest.approx(1)
        assert 1 / 3 < record['mask_confidence'] < 1 < record['mask_penalty']


def gradients_on_rank(rank: int, ranks: int) -> list[Tensor]:
    """Of a step on this rank's share of four images, within DDP if there are several ranks."""
    torch.manual_seed(0)
    model = MODELS.build(dict(MODEL, backbone=BACKBONE))
    model.init_weights()
    wrapped = DistributedDataParallel(model, static_graph=model.static_graph) if ranks > 1 else model
    generator, share = torch.Generator().manual_seed(1), 4 // ranks
    images = [torch.randn(4, 3, SIZE, SIZE, generator=generator)[rank * share :][:share] for _ in range(2)]
    for iteration in range(2):
        model.zero_grad()
        model.set_progress(Progress(iteration, 10, 5, iteration=iteration))
        losses = wrapped(images, mode='loss')
        sum(losses.values()).backward()
    return [parameter.grad for parameter in model.parameters() if parameter.requires_grad]


def test_two_processes_are_one_with_twice_the_batch(run_two) -> None:
    """The images of both are told apart, and the signs of both networks' gradients survive the wrapper."""
    first, second = run_two(gradients_on_rank, 2)
    for one, other, alone in zip(first, second, gradients_on_rank(0, 1), strict=True):
        assert torch.equal(one, other)
        torch.testing.assert_close(one, alone, rtol=1e-3, atol=1e-6)
