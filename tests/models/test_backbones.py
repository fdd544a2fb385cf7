"""The masked backbones are mmpretrain's networks, and their attention is a plain softmax."""

from __future__ import annotations

import pytest
import torch
from mmpretrain.models.backbones import SwinTransformer, VisionTransformer
from mmpretrain.models.utils import MultiheadAttention, ShiftWindowMSA, WindowMSA
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.interop import load_backbone
from mstkit.models.backbones import expand_mask
from mstkit.registry import MODELS
from tests.models.builders import BACKBONES, SIZES, SWIN, VIT

ORIGINALS = {'vit': VisionTransformer, 'swin': SwinTransformer}


def build(name: str, **more):
    model = MODELS.build({**BACKBONES[name], **more})
    model.init_weights()
    model.eval()
    return model


def original(name: str, model: torch.nn.Module, **more):
    config = {key: value for key, value in {**BACKBONES[name], **more}.items() if key != 'type'}
    twin = ORIGINALS[name](**config)
    twin.load_state_dict(model.state_dict(), strict=True)
    twin.eval()
    return twin


@pytest.mark.parametrize('name', BACKBONES)
def test_state_dict_keys_and_forward_are_mmpretrains(name):
    model = build(name)
    twin = original(name, model)
    assert list(model.state_dict()) == list(twin.state_dict())
    x = torch.randn(2, 3, SIZES[name][0], SIZES[name][0])
    for mine, theirs in zip(model(x), twin(x), strict=True):
        assert torch.equal(mine, theirs)


def test_vit_tokens_equal_mmpretrains_output():
    model = build('vit', out_type='raw')
    x = torch.randn(2, 3, 32, 32)
    raw = model(x)[0]
    tokens = model.forward_tokens(x)
    torch.testing.assert_close(tokens.pooled, raw[:, 0])
    torch.testing.assert_close(tokens.patch_tokens, raw[:, 1:])
    assert tokens.grid == (4, 4)
    assert tokens.attention is None


def test_swin_tokens_are_mmpretrains_output_bit_for_bit_at_224():
    model = build('swin')
    x = torch.randn(1, 3, 224, 224)
    feature_map = original('swin', model)(x)[0]
    tokens = model.forward_tokens(x)
    assert torch.equal(tokens.patch_tokens, feature_map.flatten(2).transpose(1, 2))
    assert tokens.grid == (7, 7)


def test_swin_never_shifts_a_map_of_one_window_even_when_asked_to_pad():
    """mmpretrain's pad_small_map shifts at 7×7, which masks most of the attention."""
    x = torch.randn(1, 3, 224, 224)
    model = build('swin', pad_small_map=True)
    plain = original('swin', model)
    padding = original('swin', model, pad_small_map=True)
    assert torch.equal(model(x)[0], plain(x)[0])
    assert (padding(x)[0] - plain(x)[0]).abs().max() > 1e-3


def test_swin_takes_local_crops():
    model = build('swin')
    tokens = model.forward_tokens(torch.randn(2, 3, 96, 96))
    assert tokens.grid == (3, 3)
    assert tokens.patch_tokens.shape == (2, 9, 192)


def attention_in_quadrants(attention: ShiftWindowMSA, x: Tensor, side: int) -> Tensor:
    """What the 7×7 window of a shifted block does to a padded map of one window, written out.

    Rolling by 3 brings the first three rows (columns) behind the others, and the mask parts what was not neighbors:
    the map falls into four quadrants that see each other no more, and nothing else changes.
    """
    msa = attention.w_msa
    batch, dims = len(x), x.shape[2]
    padded = torch.zeros(batch, 7, 7, dims)
    padded[:, :side, :side] = x.view(batch, side, side, dims)
    q, k, v = msa.qkv(padded.flatten(1, 2)).view(batch, 49, 3, msa.num_heads, -1).permute(2, 0, 3, 1, 4)
    rows, columns = torch.arange(49) // 7, torch.arange(49) % 7
    down, right = (cells[:, None] - cells[None, :] + 6 for cells in (rows, columns))
    scores = q @ k.transpose(-2, -1) / (dims // msa.num_heads) ** 0.5
    scores = scores + msa.relative_position_bias_table[down * 13 + right].permute(2, 0, 1)
    quadrant = (rows < 3) * 2 + (columns < 3)
    scores = scores.masked_fill(quadrant[:, None] != quadrant[None, :], float('-inf'))
    out = msa.proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
    return out.view(batch, 7, 7, dims)[:, :side, :side].flatten(1, 2)


def test_ibots_swin_shifts_the_padded_map_of_a_local_crop():
    """In the third stage, whose map is larger than a window at 224 px; in the fourth nobody shifts."""
    model, ours = build('swin', shift_by='img_size'), build('swin')
    ours.load_state_dict(model.state_dict())
    for stage in model.stages:
        for block in stage.blocks:
            torch.nn.init.normal_(block.attn.w_msa.relative_position_bias_table)
            torch.nn.init.normal_(block.attn.w_msa.qkv.bias)  # so that the padding is seen
    shifting = model.stages[2].blocks[1].attn
    for side in (6, 7):
        x = torch.randn(2, side**2, 96)
        torch.testing.assert_close(shifting(x, (side, side)), attention_in_quadrants(shifting, x, side))
    assert [block.attn.shifts((6, 6)) for block in model.stages[2].blocks] == [False, True]
    assert not any(block.attn.shifts((6, 6)) for block in ours.stages[2].blocks)
    # Decided by the map at 224 px, which is one window: neither on a smaller map nor on a larger one.
    assert not any(block.attn.shifts(grid) for block in model.stages[3].blocks for grid in ((3, 3), (10, 10)))
    assert model.attention_layers(320) == 2 and ours.attention_layers(320) == 1


def test_what_decides_the_shift_does_not_matter_at_the_size_of_the_network():
    model, ours = build('swin', shift_by='img_size'), build('swin')
    ours.load_state_dict(model.state_dict())
    large, small = torch.randn(1, 3, 224, 224), torch.randn(1, 3, 96, 96)
    assert torch.equal(model.forward_tokens(large).patch_tokens, ours.forward_tokens(large).patch_tokens)
    apart = (model.forward_tokens(small).pooled - ours.forward_tokens(small).pooled).norm()
    assert apart > 0.01 * ours.forward_tokens(small).pooled.norm()
    with pytest.raises(UsageError, match='shift_by is'):
        MODELS.build({**SWIN, 'shift_by': 'window'})


def full_attention(attention: MultiheadAttention, x: Tensor) -> Tensor:
    """Plain softmax(QKᵀ/√d), written without any of the package's code: (B, N, L, L)."""
    batch, length, dims = x.shape
    heads = attention.num_heads
    q, k, _ = attention.qkv(x).view(batch, length, 3, heads, dims // heads).permute(2, 0, 3, 1, 4)
    return ((q @ k.transpose(-2, -1)) / (dims // heads) ** 0.5).softmax(dim=-1)


def input_of(module: torch.nn.Module, run) -> Tensor:
    seen = []
    handle = module.register_forward_hook(lambda _, args, __: seen.append(args[0]))
    run()
    handle.remove()
    return seen[-1]


def test_vit_attention_is_the_class_tokens_row():
    model = build('vit')
    x = torch.randn(3, 3, 32, 32)
    last = model.layers[-1].attn
    entering = input_of(last, lambda: model.forward_tokens(x))
    expected = full_attention(last, entering)[:, :, 0, 1:]
    attention = model.forward_tokens(x, return_attention=True).attention
    assert attention.shape == (3, 3, 16)
    torch.testing.assert_close(attention, expected, atol=1e-5, rtol=0)


def test_vit_without_class_token_asks_with_the_mean_query():
    model = build('vit', with_cls_token=False, out_type='avg_featmap')
    x = torch.randn(2, 3, 32, 32)
    last = model.layers[-1].attn
    entering = input_of(last, lambda: model.forward_tokens(x))
    q, k, _ = last.qkv(entering).view(2, 16, 3, 3, 16).permute(2, 0, 3, 1, 4)
    expected = (q.mean(2, keepdim=True) @ k.transpose(-2, -1) / 4).softmax(-1)[:, :, 0]
    tokens = model.forward_tokens(x, return_attention=True)
    torch.testing.assert_close(tokens.attention, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(tokens.pooled, tokens.patch_tokens.mean(1))


def window_softmax(msa: WindowMSA, x: Tensor) -> Tensor:
    """Full window attention with the relative position bias: (B, N, 49, 49)."""
    batch, length, dims = x.shape
    q, k, _ = msa.qkv(x).view(batch, length, 3, msa.num_heads, dims // msa.num_heads).permute(2, 0, 3, 1, 4)
    bias = msa.relative_position_bias_table[msa.relative_position_index.flatten()].view(length, length, -1)
    return ((q * msa.scale) @ k.transpose(-2, -1) + bias.permute(2, 0, 1)).softmax(-1)


def test_swin_attention_is_what_each_token_receives():
    model = build('swin')
    x = torch.randn(2, 3, 224, 224)
    msa = model.stages[-1].blocks[-1].attn.w_msa
    entering = input_of(msa, lambda: model.forward_tokens(x))
    expected = window_softmax(msa, entering).mean(dim=2)
    attention = model.forward_tokens(x, return_attention=True).attention
    assert attention.shape == (2, 6, 49)
    torch.testing.assert_close(attention, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(attention.sum(-1), torch.ones(2, 6))


def test_swin_reads_attention_from_the_last_unshifted_block_on_larger_maps():
    model = build('swin')
    x = torch.randn(1, 3, 320, 320)  # 10×10 in the last stage: windows are padded, and the last block shifts
    first, second = model.stages[-1].blocks
    assert not first.attn.shifts((10, 10))
    assert second.attn.shifts((10, 10))
    attention = model.forward_tokens(x, return_attention=True).attention
    assert attention.shape == (1, 6, 100)
    # Each of the four windows gives away the attention of its queries, none of it to the padding.
    torch.testing.assert_close(attention.sum(-1), torch.full((1, 6), 4.0))


def test_swin_small_map_keeps_attention_off_the_padding():
    tokens = build('swin').forward_tokens(torch.randn(2, 3, 96, 96), return_attention=True)
    torch.testing.assert_close(tokens.attention.sum(-1), torch.ones(2, 6))


def test_swin_pseudo_cls_is_a_distribution_of_one_query():
    attention = (
        build('swin', attention_query='pseudo_cls')
        .forward_tokens(torch.randn(1, 3, 224, 224), return_attention=True)
        .attention
    )
    torch.testing.assert_close(attention.sum(-1), torch.ones(1, 6))
    with pytest.raises(UsageError, match='pseudo'):
        MODELS.build({**SWIN, 'attention_query': 'cls'})


@pytest.mark.parametrize('name', BACKBONES)
def test_mask_token_replaces_the_embedding_before_the_position(name):
    """Hiding everything leaves the output independent of the image but not of the place."""
    model = build(name)
    size = SIZES[name][0]
    cells = 4 if name == 'vit' else 7
    everything = torch.ones(2, cells, cells, dtype=torch.bool)
    token = torch.randn(model.embedding_dims)
    a = model.forward_tokens(torch.randn(2, 3, size, size), everything, mask_token=token)
    b = model.forward_tokens(torch.randn(2, 3, size, size), everything, mask_token=token)
    torch.testing.assert_close(a.patch_tokens, b.patch_tokens)
    if name == 'vit':
        assert a.patch_tokens.std(dim=1).max() > 1e-3  # the position is still there
    nothing = torch.zeros_like(everything)
    x = torch.randn(2, 3, size, size)
    torch.testing.assert_close(
        model.forward_tokens(x, nothing, mask_token=token).pooled, model.forward_tokens(x).pooled
    )


def test_mask_hides_exactly_the_marked_patches():
    """Changing pixels under the mask changes nothing; changing others does."""
    model = build('vit')
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, 1, 2] = True
    token = torch.randn(48)
    x = torch.randn(1, 3, 32, 32)
    hidden, shown = x.clone(), x.clone()
    hidden[:, :, 8:16, 16:24] += 1
    shown[:, :, 16:24, 16:24] += 1
    base = model.forward_tokens(x, mask, mask_token=token).pooled
    torch.testing.assert_close(model.forward_tokens(hidden, mask, mask_token=token).pooled, base)
    assert not torch.allclose(model.forward_tokens(shown, mask, mask_token=token).pooled, base)


def test_coarse_mask_is_repeated_onto_the_grid():
    mask = torch.tensor([[[True, False], [False, True]]])
    expected = torch.block_diag(torch.ones(3, 3), torch.ones(3, 3)).bool()
    assert torch.equal(expand_mask(mask, (6, 6))[0], expected)
    with pytest.raises(UsageError, match='2x2 cells does not fit a grid of 5x6'):
        expand_mask(mask, (5, 6))


@pytest.mark.parametrize(
    ('name', 'size', 'masked', 'message'),
    [('vit', 33, True, '32 or 40'), ('vit', 4, False, 'use 8 px'), ('swin', 112, True, '96 or 128')],
)
def test_sizes_that_only_padding_could_take_are_refused(name, size, masked, message):
    with pytest.raises(UsageError, match=message):
        build(name).check_image_size(size, masked)


def test_swin_local_crop_has_to_fit_the_patches_only():
    build('swin').check_image_size(96, masked=False)
    build('swin').check_image_size(100, masked=False)


@pytest.mark.parametrize('name', BACKBONES)
def test_every_tensor_starts_as_in_the_official_code(name):
    """DINO, iBOT and Swin: linear layers, tokens, positions truncated normal; the patch embedding torch's default."""
    torch.manual_seed(0)
    model = MODELS.build({**BACKBONES[name], **(dict(arch='deit-tiny', img_size=224) if name == 'vit' else {})})
    model.init_weights()
    kinds = dict(model.named_modules())
    seen = set()
    for key, parameter in model.named_parameters():
        weight = parameter.detach()
        owner, _, leaf = key.rpartition('.')
        if isinstance(kinds[owner], torch.nn.LayerNorm):
            assert torch.equal(weight, torch.full_like(weight, leaf == 'weight')), key
        elif isinstance(kinds[owner], torch.nn.Conv2d):
            bound = (3 * model.patch_size**2 if name == 'swin' else 3 * 8**2) ** -0.5
            assert 0.9 * bound < weight.abs().max() <= bound, key
            if leaf == 'weight':
                assert weight.std() == pytest.approx(bound / 3**0.5, rel=0.1), key
        elif leaf == 'bias':
            assert not weight.any(), key
        else:
            assert leaf in ('weight', 'cls_token', 'pos_embed', 'relative_position_bias_table'), key
            assert weight.std() == pytest.approx(0.02, rel=0.15), key
            assert weight.abs().max() < 0.12, key  # of a hundred thousand draws, the largest
        seen.add(leaf)
    assert {'weight', 'bias', *(('cls_token', 'pos_embed') if name == 'vit' else ())} <= seen
    assert model.train() is model
    assert model.eval() is model


def dinos_positions(positions: Tensor, height: int, width: int) -> Tensor:
    """As DINO's code interpolates them, class token first."""
    side = int((positions.shape[1] - 1) ** 0.5)
    grid = positions[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    scale = ((height + 0.1) / side, (width + 0.1) / side)
    grid = torch.nn.functional.interpolate(grid, scale_factor=scale, mode='bicubic')
    return torch.cat((positions[:, :1], grid.flatten(2).transpose(1, 2)), dim=1)


@pytest.mark.parametrize('size', [(96, 96), (224, 96), (320, 224)])
def test_the_offset_of_dinos_positions(size):
    """0.1 is added to the sides of the grid; at the network's own size nothing is interpolated."""
    dino, plain = (build('vit', img_size=224, patch_size=16, interpolate_offset=offset) for offset in (0.1, 0.0))
    plain.load_state_dict(dino.state_dict())
    x, grid = torch.randn(2, 3, *size), (size[0] // 16, size[1] // 16)
    tokens = dino.patch_embed(x)[0]
    tokens = torch.cat((dino.cls_token.expand(2, -1, -1), tokens), dim=1)
    tokens = tokens + dinos_positions(dino.pos_embed, *grid)
    for layer in dino.layers:
        tokens = layer(tokens)
    expected = dino.ln1(tokens)
    torch.testing.assert_close(dino.forward_tokens(x).patch_tokens, expected[:, 1:])
    torch.testing.assert_close(dino(x)[0], expected[:, 0])
    assert (plain.forward_tokens(x).patch_tokens - expected[:, 1:]).abs().max() > 1e-3
    own = torch.randn(1, 3, 224, 224)
    assert torch.equal(dino.forward_tokens(own).patch_tokens, plain.forward_tokens(own).patch_tokens)


def test_with_an_offset_every_output_is_still_mmpretrains():
    settings = dict(img_size=32, out_indices=[0, 2], out_type='featmap')
    model = build('vit', interpolate_offset=0.1, **settings)
    x = torch.randn(2, 3, 32, 32)
    for mine, other in zip(model(x), original('vit', model, **settings)(x), strict=True):
        assert torch.equal(mine, other)


def test_positions_are_loaded_with_the_offset_of_the_network():
    source = build('vit', img_size=224, patch_size=16)
    small = build('vit', img_size=96, patch_size=16, interpolate_offset=0.1)
    small.load_state_dict(source.state_dict())
    torch.testing.assert_close(small.pos_embed, dinos_positions(source.pos_embed, 6, 6))
    other = build('vit', img_size=96, patch_size=16, interpolate_offset=0.1)
    load_backbone(other, dict(state_dict={f'backbone.{k}': v for k, v in source.state_dict().items()}))
    assert torch.equal(other.pos_embed, small.pos_embed)
    with pytest.raises(UsageError, match=r'interpolate_offset is -0\.1'):
        build('vit', interpolate_offset=-0.1)


def test_non_square_input():
    tokens = MODELS.build(VIT).forward_tokens(torch.randn(1, 3, 32, 48), return_attention=True)
    assert tokens.grid == (4, 6)
    assert tokens.attention.shape == (1, 3, 24)
