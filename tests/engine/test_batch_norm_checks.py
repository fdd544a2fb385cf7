"""A batch of one image is refused when the run is built, where batch normalization would fail in the first step."""

from __future__ import annotations

import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mstkit.engine.runner.batch_norm_checks import check_batch_norms
from mstkit.errors import UsageError
from tests.models.builders import NECK

from . import running
from .test_view_checks import DINO, MOBY, build


def head(**neck) -> dict:
    return dict(DINO, neck=dict(NECK, **neck))


@pytest.mark.parametrize(
    ('model', 'images', 'loader', 'message'),
    [
        (head(batch_norm='global_only'), 16, dict(batch_size=1), r'model\.neck .*batch_size is 1 .*batch_size=2'),
        (MOBY, 16, dict(batch_size=1), r'model\.neck\.\S+ has batch normalization.*train_dataloader\.batch_size=2'),
        (
            head(batch_norm='global_only'),
            9,
            dict(batch_size=4, drop_last=False),
            r'the last batch of an epoch would have one .*batch_size is 4.*train_dataloader\.drop_last=True',
        ),
    ],
)
def test_a_batch_of_one_that_the_first_step_would_fail_with(tmp_path, model, images, loader, message):
    with pytest.raises(UsageError, match=message):
        build(tmp_path, model, images=images, **loader)
    assert not (tmp_path / 'work').exists()


@pytest.mark.parametrize('model', [head(), head(batch_norm='all'), head(batch_norm='global_only')])
def test_what_is_accepted_is_trained_with(tmp_path, model):
    batch = 2 if model['neck'].get('batch_norm') == 'global_only' else 1
    runner = build(tmp_path, model, images=2, batch_size=batch)
    runner.train()
    assert runner.iter == 3 * 2 // batch


def test_a_toy_whose_batch_norm_sees_one_vector(tmp_path):
    with pytest.raises(UsageError, match=r'model\.body\.2 has batch normalization'):
        running.build(tmp_path / 'work', model__batch_norm=True, train_dataloader__batch_size=1)


class Pooling(nn.Module):
    """A scale of mmseg's pyramid pooling, and a convolution with its own normalization."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.maps = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(size), nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return self.pool(self.maps(maps))


class Probe(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Flatten(2), nn.BatchNorm1d(2))
        self.head = nn.Linear(4, 2)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(maps))


@pytest.mark.parametrize(('model', 'fails'), [(Pooling(1), True), (Pooling(2), False), (Probe(), False)])
def test_the_rule_refuses_what_torch_refuses(model, fails):
    images = torch.randn(5, 2, 2, 2)
    for batch, drops, single in ((1, True, True), (2, False, True), (2, True, False), (3, False, False)):
        data = TensorDataset(images)
        loader = DataLoader(data, batch, sampler=DefaultSampler(data, shuffle=False), drop_last=drops)
        raised = []
        for check in (lambda: check_batch_norms(model, loader), lambda: [model(one) for (one,) in loader]):  # noqa: B023
            try:
                check()
            except (UsageError, ValueError) as error:
                raised.append(type(error))
        assert raised == ([UsageError, ValueError] if fails and single else [])
        endless = DataLoader(data, 2, sampler=InfiniteSampler(data), drop_last=False)
        check_batch_norms(model, endless)  # has no last batch


def test_what_is_frozen_takes_no_statistics():
    model = Pooling(1)
    model.pool.eval()
    check_batch_norms(model, DataLoader(TensorDataset(torch.zeros(3, 2, 2, 2)), 1))
