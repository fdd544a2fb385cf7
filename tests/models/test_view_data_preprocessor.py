"""Views that are colored on the device are those that the CPU makes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate
from PIL import Image

from mstkit.datasets import MultiCrop, PackViews, SampleKey
from mstkit.errors import UsageError
from mstkit.models import ViewDataPreprocessor
from mstkit.models.data_preprocessors import view_data_preprocessor
from mstkit.registry import MODELS

CROPS = dict(global_crops=dict(size=48), local_crops=dict(size=24, count=3))
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def toy_image(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    noise = rng.normal(0, 12, (96, 128, 3))
    return np.clip(np.asarray(coarse.resize((128, 96), 3)) + noise, 0, 255).astype(np.uint8)


def batch(photometric: str, count: int = 12, **settings) -> dict:
    transform, pack = MultiCrop(**CROPS, **settings, photometric=photometric), PackViews()
    return default_collate(
        [pack(transform(dict(img=toy_image(i), sample_idx=SampleKey(i, 3, 5)))) for i in range(count)]
    )


def plain(**settings) -> ViewDataPreprocessor:
    return MODELS.build(dict(type='ViewDataPreprocessor', **settings))


def test_the_device_makes_the_views_of_the_cpu():
    cpu, device = batch('cpu'), batch('device')
    assert device['photometric'].shape == (12, 5, 12) and 'photometric' not in cpu
    made = plain()(device, training=True)
    assert set(made) == {'inputs', 'data_samples'} and len(made['inputs']) == 5
    uncolored = changed = 0.0
    for ours, theirs, raw in zip(made['inputs'], cpu['inputs'], device['inputs'], strict=True):
        assert ours.dtype == torch.float32 and raw.dtype == torch.uint8
        difference = (ours - theirs.float()).abs().mean(dim=(1, 2, 3))
        assert difference.max() <= 2, difference
        changed += float((raw.float() - theirs.float()).abs().mean())
        uncolored += float(difference.mean())
    assert changed > 20 * uncolored  # the crops alone would be far from it


@pytest.mark.parametrize('name', ['flip', 'jitter', 'gray', 'blur', 'solarize'])
def test_each_operation_alone(name):
    recipe = dict(dict.fromkeys(('flip', 'jitter', 'gray', 'blur', 'solarize'), 0.0), **{name: 0.5})
    settings = dict(global_recipes=recipe, local_recipe=recipe)
    cpu, device = batch('cpu', **settings), batch('device', **settings)
    for ours, theirs in zip(plain()(device)['inputs'], cpu['inputs'], strict=True):
        assert (ours - theirs).abs().mean(dim=(1, 2, 3)).max() <= 2
        if name == 'flip':
            assert torch.equal(ours, theirs.float())


def test_nothing_to_do():
    recipe = dict.fromkeys(('flip', 'jitter', 'gray', 'blur', 'solarize'), 0.0)
    device = batch('device', global_recipes=recipe, local_recipe=recipe)
    for ours, raw in zip(plain()(device)['inputs'], device['inputs'], strict=True):
        assert torch.equal(ours, raw.float())


def test_normalized_and_reproducible():
    device = batch('device')
    first, again = (plain(mean=MEAN, std=STD)(device, True)['inputs'] for _ in range(2))
    for one, other, raw in zip(first, again, plain()(device, True)['inputs'], strict=True):
        assert torch.equal(one, other)
        expected = (raw - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
        torch.testing.assert_close(one, expected)


def test_a_sample_does_not_depend_on_its_batch():
    """Which images meet an operation together does not matter, nor does the widest kernel among them."""
    whole, part = (plain()(batch('device', count))['inputs'] for count in (12, 5))
    for one, other in zip(whole, part, strict=True):
        torch.testing.assert_close(one[:5], other, rtol=0, atol=1e-3)


def test_a_single_view_and_channels():
    device = batch('device')
    view = {'inputs': device['inputs'][1], 'data_samples': None, 'photometric': device['photometric'][:, 1:2]}
    made = plain()(view)['inputs']
    assert torch.equal(made, plain()(device)['inputs'][1])
    swapped = plain(to_rgb=True)(dict(view, inputs=view['inputs'][:, [2, 1, 0]]))['inputs']
    assert torch.equal(swapped, made)


def test_without_parameters_it_is_mmpretrains():
    cpu = batch('cpu')
    theirs = MODELS.build(dict(type='SelfSupDataPreprocessor', mean=MEAN, std=STD))(cpu, True)
    for one, other in zip(plain(mean=MEAN, std=STD)(cpu, True)['inputs'], theirs['inputs'], strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match='unpack'):  # a preprocessor that does not know the parameters stops
        MODELS.build(dict(type='SelfSupDataPreprocessor'))(batch('device'), True)


def test_no_operation_reads_from_the_device(monkeypatch):
    """What would wait for a GPU: reading a number, a truth value, or which entries of a mask are set."""
    device = batch('device')

    def waits(*_, **__):
        raise AssertionError('the host waits for the device')

    for name in ('item', 'tolist', 'numpy', '__bool__', '__float__', '__int__', 'nonzero'):
        original = getattr(torch.Tensor, name)
        if name == 'numpy':  # of the parameters, which are on the host
            monkeypatch.setattr(
                torch.Tensor, name, lambda t, *a, o=original, **k: o(t, *a, **k) if t.shape[-1] == 12 else waits()
            )
        else:
            monkeypatch.setattr(torch.Tensor, name, waits)
    monkeypatch.setattr(view_data_preprocessor.torch, 'nonzero', waits)
    plain(mean=MEAN, std=STD)(device, True)


def test_channels_go_one_way():
    with pytest.raises(UsageError, match='bgr_to_rgb and rgb_to_bgr are both True: give one of them'):
        plain(bgr_to_rgb=True, rgb_to_bgr=True)
