"""Clipping, freezing, precision and accumulation."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MessageHub
from torch import nn

from mstkit.engine.hooks import StepInfoHook
from mstkit.engine.optim.optim_wrapper import DistillationOptimWrapper, clip_per_tensor_
from mstkit.errors import UsageError
from mstkit.structures import Progress


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(5, 5)
        self.last_layer = nn.Linear(5, 3, bias=False)

    def forward(self, x):
        return self.last_layer(self.body(x)).float().square().mean()


def wrapper_of(net: nn.Module, **settings) -> DistillationOptimWrapper:
    return DistillationOptimWrapper(torch.optim.AdamW(net.parameters(), lr=0.1), **settings)


def test_clip_per_tensor_equals_a_plain_loop():
    generator = torch.Generator().manual_seed(1)
    shapes_and_scales = [((4, 3), 0.01), ((7,), 5.0), ((2, 2, 2), 100.0), ((1,), 3.0), ((3,), 0.0)]
    gradients = [torch.randn(shape, generator=generator) * scale for shape, scale in shapes_and_scales]
    expected, norms = [], []
    for gradient in gradients:
        norm = float(gradient.double().square().sum() ** 0.5)
        coefficient = 3.0 / (norm + 1e-6)
        expected.append(gradient * coefficient if coefficient < 1 else gradient.clone())
        norms.append(norm)
    returned = clip_per_tensor_(gradients, 3.0)
    torch.testing.assert_close(returned, torch.tensor(norms))
    for got, want in zip(gradients, expected, strict=True):
        torch.testing.assert_close(got, want)
    assert gradients[1].norm() < 3.0 < norms[1]
    assert torch.equal(gradients[0], expected[0]), 'a small gradient is not touched'


def test_global_clipping_is_torchs():
    net, other = Net(), Net()
    wrapper = wrapper_of(net, clip_mode='global', clip_norm=0.5, freeze_last_layer_epochs=0)
    inputs = torch.full((2, 5), 10.0)
    wrapper.backward(net(inputs))
    wrapper._clip()
    other(inputs).backward()
    nn.utils.clip_grad_norm_(other.parameters(), 0.5)
    for got, want in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(got.grad, want.grad)


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_last_layer_waits_its_epochs(precision):
    net = Net()
    wrapper = wrapper_of(net, precision=precision, freeze_last_layer_epochs=2)
    wrapper.initialize_count_status(net, 0, 6)
    moved = []
    for step in range(6):
        wrapper.set_progress(Progress(step=step, total_steps=6, steps_per_epoch=2))
        before = net.last_layer.weight.clone(), net.body.weight.clone()
        with wrapper.optim_context(net):
            seen_type = net.body(torch.ones(2, 5)).dtype
            loss = net(torch.ones(2, 5))
        wrapper.update_params(loss)
        assert wrapper.stepped
        assert not torch.equal(before[1], net.body.weight)
        moved.append(not torch.equal(before[0], net.last_layer.weight))
    assert moved == [False] * 4 + [True] * 2
    assert seen_type is (torch.bfloat16 if precision == 'bf16' else torch.float32)
    assert net.body.weight.dtype is torch.float32


@pytest.mark.parametrize('has_bf16, expected', [(True, torch.bfloat16), (False, None)])
def test_auto_follows_the_cpu(monkeypatch, has_bf16, expected):
    monkeypatch.setattr('mstkit.utils.device_precision.multiplies_bf16', lambda: has_bf16)
    assert wrapper_of(Net(), precision='auto').cast_dtype is expected
    assert wrapper_of(Net(), precision='fp32').cast_dtype is None


def test_freezing_without_progress_is_refused():
    net = Net()
    wrapper = wrapper_of(net)
    wrapper.initialize_count_status(net, 0, 2)
    with pytest.raises(UsageError, match='ProgressHook'):
        wrapper.update_params(net(torch.ones(2, 5)))


@pytest.mark.parametrize('length', [None, 5, 6])
def test_windows_of_accumulation(length):
    """Each window's loss factors sum to one, and no window crosses the end of an epoch."""
    net = Net()
    wrapper = wrapper_of(net, accumulative_counts=3, freeze_last_layer_epochs=0)
    total = 2 * (length or 5)
    wrapper.initialize_count_status(net, 0, total)
    if length:
        wrapper.set_epoch_length(length)
    windows, current = [], []
    for _ in range(total):
        sync = wrapper.should_sync()
        current.append(float(wrapper.scale_loss(torch.ones(()))))
        wrapper.update_params(net(torch.ones(2, 5)))
        assert wrapper.stepped == sync
        if wrapper.stepped:
            windows.append(current)
            current = []
    assert current == []
    sizes = {None: [3, 3, 3, 1], 5: [3, 2, 3, 2], 6: [3, 3, 3, 3]}[length]
    assert [len(window) for window in windows] == sizes
    assert [sum(window) for window in windows] == pytest.approx([1.0] * 4)


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(precision='half'), "'half'"),
        (dict(precision='fp16'), 'CUDA'),
        (dict(clip_mode='layer'), "'layer'"),
        (dict(clip_norm=-1), '-1'),
        (dict(accumulative_counts=0), '0'),
        (dict(freeze_last_layer_epochs=-1), '-1'),
    ],
)
def test_wrong_values_are_named(settings, message):
    with pytest.raises(UsageError, match=message):
        wrapper_of(Net(), **settings)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_fp16_overflow_is_counted_and_survives_a_checkpoint():
    net = Net().cuda()
    wrapper = wrapper_of(net, precision='fp16', freeze_last_layer_epochs=0)
    before = net.body.weight.clone()
    wrapper.update_params(net(torch.ones(2, 5).cuda()) * float('inf'))
    assert wrapper.stepped and wrapper.skipped_steps == 1
    assert torch.equal(before, net.body.weight)
    other = wrapper_of(net, precision='fp16', freeze_last_layer_epochs=0)
    other.load_state_dict(wrapper.state_dict())
    assert other.skipped_steps == 1
    assert other.loss_scaler is not None and wrapper.loss_scaler is not None
    assert other.loss_scaler.get_scale() == wrapper.loss_scaler.get_scale()


def test_what_the_scaler_left_out_is_in_the_log():
    net = Net()
    wrapper = wrapper_of(net, freeze_last_layer_epochs=0)
    hub = MessageHub('what the scaler left out')
    runner = SimpleNamespace(iter=0, epoch=0, optim_wrapper=wrapper, message_hub=hub)
    hook = StepInfoHook()
    hook.after_train_iter(runner, 0, outputs=dict(loss=torch.tensor(1.0)))
    assert set(hub.log_scalars) == {'train/loss'}, 'there is no scaler'
    wrapper.loss_scaler = torch.amp.GradScaler('cpu', init_scale=1024.0)
    for number, factor in enumerate((1.0, float('inf'), 1.0)):
        wrapper.update_params(net(torch.ones(2, 5)) * factor)
        hook.after_train_iter(runner, number, outputs=dict(loss=torch.tensor(1.0)))
    assert hub.log_scalars['train/skipped_steps'].data[0].tolist() == [0, 1, 1]


def test_fp16_goes_through_the_scaler():
    """The order unscale, clip, freeze, step, on the CPU's float32 with a scaler put in."""
    net = Net()
    wrapper = wrapper_of(net, clip_norm=1e-3, freeze_last_layer_epochs=1)
    wrapper.initialize_count_status(net, 0, 4)
    wrapper.set_progress(Progress(step=0, total_steps=4, steps_per_epoch=2))
    wrapper.loss_scaler = torch.amp.GradScaler('cpu', init_scale=1024.0)
    norms = []
    step = wrapper.optimizer.step

    def spy(*args, **kwargs):
        norms.append({name: p.grad is not None and float(p.grad.norm()) for name, p in net.named_parameters()})
        return step(*args, **kwargs)

    wrapper.optimizer.step = spy
    wrapper.update_params(net(torch.ones(2, 5)))
    assert norms[0]['last_layer.weight'] is False
    assert norms[0]['body.weight'] == pytest.approx(1e-3, rel=1e-2)
    before = net.body.weight.clone()
    wrapper.update_params(net(torch.ones(2, 5)) * float('inf'))
    assert wrapper.stepped and wrapper.skipped_steps == 1 and torch.equal(before, net.body.weight)
