"""Our encoder layer gives what mmpretrain's gives, whichever of its tokens are asked for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmpretrain.models.backbones import VisionTransformer
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch import Tensor

from benchmarks.contest.kept_tensors import kept
from mstkit.models import MaskedVisionTransformer, encoder_layer
from mstkit.models.encoder_layer import EncoderLayer
from mstkit.models.memory_lean_linear import LeanFFN
from tests.models.builders import gradient_of

ARCH = dict(embed_dims=24, num_layers=3, num_heads=3, feedforward_channels=48)


def networks(drop: float, **settings: Any) -> tuple[VisionTransformer, MaskedVisionTransformer]:
    """mmpretrain's and ours with the same weights, in training."""
    torch.manual_seed(0)
    common = dict(arch=ARCH, img_size=32, patch_size=8, drop_path_rate=drop, **settings)
    theirs, ours = VisionTransformer(**common), MaskedVisionTransformer(**common)
    theirs.init_weights()
    ours.load_state_dict(theirs.state_dict())
    theirs.train(), ours.train()
    return theirs, ours


@pytest.mark.parametrize('settings', [{}, dict(layer_scale_init_value=0.3)], ids=['plain', 'layer scale'])
@pytest.mark.parametrize('drop', [0.0, 0.5])
def test_output_and_gradients_are_mmpretrains(drop, settings):
    theirs, ours = networks(drop, **settings)
    assert all(isinstance(layer, EncoderLayer) for layer in ours.layers)
    images, direction = torch.randn(8, 3, 32, 32), torch.randn(8, 24)
    for seed in range(4):
        outputs = []
        for network in (theirs, ours):
            torch.manual_seed(seed)
            network.zero_grad()
            outputs.append(network(images)[0])
            (outputs[-1] * direction).sum().backward()
        torch.testing.assert_close(*outputs)
        for (name, a), b in zip(theirs.named_parameters(), ours.parameters(), strict=True):
            torch.testing.assert_close(
                a.grad, b.grad, rtol=1e-4, atol=1e-4 * float(gradient_of(a).abs().max()), msg=name
            )


@pytest.mark.parametrize('drop', [0.0, 0.5])
def test_read_tokens_are_those_of_the_whole(drop):
    _, ours = networks(drop)
    images = torch.randn(5, 3, 32, 32)
    mask = torch.rand(5, 4, 4) < 0.3
    mask[2] = False
    token = torch.randn(24)
    found = {}
    for read in ('all', 'hidden', 'pooled'):
        torch.manual_seed(1)
        found[read] = ours.forward_tokens(images, mask, mask_token=token, return_attention=True, read=read)
        assert found[read].patch_tokens.shape == (5, 16, 24)
        torch.testing.assert_close(found[read].pooled, found['all'].pooled)
        torch.testing.assert_close(found[read].attention, found['all'].attention)
    flat = mask.flatten(1)
    torch.testing.assert_close(found['hidden'].patch_tokens[flat], found['all'].patch_tokens[flat])
    assert not found['hidden'].patch_tokens[~flat].any()
    assert not found['pooled'].patch_tokens.any()


def test_gradients_do_not_depend_on_what_is_read():
    _, ours = networks(0.3)
    images, direction = torch.randn(4, 3, 32, 32), torch.randn(4, 24)
    gradients = []
    for read in ('all', 'pooled'):
        torch.manual_seed(2)
        ours.zero_grad()
        ours.forward_tokens(images, read=read).pooled.mul(direction).sum().backward()
        gradients.append([parameter.grad.clone() for parameter in ours.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_where_all_is_dropped_gradients_are_zeros_and_not_none():
    """DistributedDataParallel waits for every parameter."""
    _, ours = networks(0.0)
    layer = ours.layers[0]
    for drop in (layer.attn.out_drop, layer.ffn.dropout_layer):
        drop.drop_prob = 1 - 1e-9
    tokens = torch.randn(2, 17, 24, requires_grad=True)
    out = layer(tokens)
    torch.testing.assert_close(out, tokens)
    out.sum().backward()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in layer.parameters())


def test_the_fused_sum_is_that_of_the_kept_images(monkeypatch):
    """As on other devices, and where few are dropped in half precision."""
    _, ours = networks(0.5)
    images, sizes = torch.randn(8, 3, 32, 32), []

    def watched(self: LeanFFN, x: Tensor, norm: Any, fed: Any = LeanFFN.feed) -> Tensor:
        sizes.append(len(x))
        return fed(self, x, norm)

    monkeypatch.setattr(LeanFFN, 'feed', watched)
    found = []
    for few in (-1.0, 0.6):
        monkeypatch.setattr(encoder_layer, 'autocast_dtype', lambda device: torch.bfloat16)
        monkeypatch.setattr(encoder_layer, 'FEW', few)
        torch.manual_seed(3)
        ours.zero_grad()
        out = ours(images)[0]
        out.square().sum().backward()
        found.append([out.detach(), *(gradient_of(p).clone() for p in ours.parameters())])
        assert all(size == 8 for size in sizes) == (few > 0)
        sizes.clear()
    for left_out, fused in zip(*found, strict=True):
        torch.testing.assert_close(fused, left_out, rtol=1e-4, atol=1e-4 * float(left_out.abs().max()))


@pytest.mark.parametrize(('rate', 'half', 'all_of_them'), [(0.1, True, True), (0.1, False, False), (0.3, True, False)])
def test_few_dropped_images_are_computed_in_half_precision(rate, half, all_of_them):
    layer = EncoderLayer(TransformerEncoderLayer(24, 3, 48, drop_path_rate=rate))
    sizes = []
    layer.attn.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    torch.manual_seed(0)
    with torch.autocast('cpu', torch.bfloat16, enabled=half):
        for _ in range(20):
            layer(torch.randn(10, 5, 24))
    assert all(size == 10 for size in sizes) == all_of_them


@pytest.mark.parametrize('half', [False, True])
def test_a_batch_that_is_dropped_whole_is_not_computed(half, monkeypatch):
    layer = EncoderLayer(TransformerEncoderLayer(24, 3, 48, drop_path_rate=0.1))
    monkeypatch.setattr(encoder_layer, '_drawn', lambda count, rate, device: torch.zeros(count, 1))
    sizes = []
    layer.attn.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    tokens = torch.randn(1, 5, 24)
    with torch.autocast('cpu', torch.bfloat16, enabled=half):
        torch.testing.assert_close(layer(tokens), tokens)
    assert sizes == [0]


@pytest.mark.parametrize('half', [False, True])
def test_the_attention_keeps_its_input_alone_unless_somebody_watches(half):
    found, bytes_kept = [], []
    x = torch.randn(3, 50, 24, requires_grad=True)
    for watched in (False, True):
        torch.manual_seed(0)
        layer = EncoderLayer(TransformerEncoderLayer(24, 3, 48))
        seen: list[Tensor] = []
        if watched:
            layer.attn.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))

        def run(layer: EncoderLayer = layer) -> Tensor:
            with torch.autocast('cpu', torch.bfloat16, enabled=half):
                return layer(x)

        bytes_kept.append(kept(layer, run))
        out = run()
        inputs = [x, *layer.parameters()]
        found.append([out, *torch.autograd.grad(out.square().sum(), inputs)])
        if watched:
            torch.testing.assert_close(seen[-1], layer.ln1(x), rtol=0, atol=0)
    assert bytes_kept[1] - bytes_kept[0] == x.numel() * (2 if half else 4)
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_dropped_images_cost_nothing():
    _, ours = networks(0.5)
    layer, seen = ours.layers[-1], []
    layer.attn.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    for seed in range(20):
        torch.manual_seed(seed)
        layer(torch.randn(10, 17, 24))
    assert 60 < sum(seen) < 140


def test_a_layer_takes_over_parameters_names_and_modes():
    theirs = TransformerEncoderLayer(24, 3, 48, layer_scale_init_value=0.3, drop_path_rate=0.5, init_cfg=dict(type='X'))
    ours = EncoderLayer(theirs.eval())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(a is b for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert ours.init_cfg == theirs.init_cfg and not any(module.training for module in ours.modules())
    public = {name for name in vars(theirs.attn) if not name.startswith('_')} - {'v_shortcut'}
    assert public <= vars(ours.attn).keys() and vars(theirs).keys() - {'_compiled'} <= vars(ours).keys()


def test_other_kinds_of_feeding_forward_stay():
    theirs = TransformerEncoderLayer(24, 3, 48, ffn_type='swiglu_fused').eval()
    ours, tokens = EncoderLayer(theirs), torch.randn(2, 5, 24)
    assert ours.ffn is theirs.ffn
    torch.testing.assert_close(ours(tokens), theirs(tokens))


@pytest.mark.parametrize('read', ['all', 'hidden', 'pooled'])
def test_checkpointing_computes_again_and_keeps_less(read):
    _, ours = networks(0.5)
    images, mask, direction = torch.randn(6, 3, 32, 32), torch.rand(6, 4, 4) < 0.3, torch.randn(6, 24)
    calls: list[int] = []
    sizes: list[int] = []
    ours.layers[0].register_forward_pre_hook(lambda *_: calls.append(1))

    def note_size(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.numel())
        return tensor

    gradients, kept = [], []
    for ours.with_cp in (False, True):
        torch.manual_seed(5)
        ours.zero_grad()
        sizes.clear()
        with torch.autograd.graph.saved_tensors_hooks(note_size, lambda x: x):
            ours.forward_tokens(images, mask, read=read).pooled.mul(direction).sum().backward()
        gradients.append([parameter.grad.clone() for parameter in ours.parameters()])
        kept.append(sum(sizes))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)
    assert kept[1] < kept[0] / 2
    assert len(calls) == 3, 'once without, twice with'
    with torch.no_grad():
        ours.forward_tokens(images, mask, read=read)
    assert len(calls) == 4, 'nothing is computed again where no gradient is wanted'
