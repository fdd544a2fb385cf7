"""Files as programs write them: which kind they are, which branches they have, what is known beside the tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.formats import NAMINGS, Hints, read_pretrained, read_weights
from mstkit.formats.naming import MERGING
from mstkit.interop import branches_of
from mstkit.networks import open_networks

from ..conversion.networks import NETWORKS, SWIN, VIT, file_of, seeded, timm_vit


def timm_state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return seeded(timm_vit()()).state_dict()


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


def swin_of_microsoft() -> dict[str, Tensor]:
    """The official code's: a stage ends with its merging."""
    state = {}
    for name, value in seeded(timm.create_model('swin_tiny_patch4_window7_224', **SWIN)).state_dict().items():
        parts = name.split('.')
        if parts[0] == 'layers' and parts[2] == 'downsample':
            parts[1] = str(int(parts[1]) - 1)
        state['.'.join(parts)] = value
    index = {
        'layers.0.blocks.0.attn.relative_position_index': torch.zeros(4, 4),
        'layers.0.blocks.1.attn_mask': index0(),
    }
    return state | index


def index0() -> Tensor:
    return torch.zeros(4, 4, 4)


def content_of(kind: str) -> dict[str, Any]:
    """What a file of that program holds, by its own layout."""
    vit = timm_state()
    if kind in ('dino', 'ibot'):
        both = prefixed(vit, 'module.backbone.') | {'module.head.mlp.0.weight': torch.zeros(2)}
        if kind == 'ibot':
            both['module.backbone.masked_embed'] = torch.zeros(1, 128)
        loss = {'dino': 'dino_loss', 'ibot': 'ibot_loss'}[kind]
        return {'student': both, 'teacher': both, 'epoch': 3, loss: dict(center=torch.zeros(2))}
    if kind == 'mae':
        decoder = {'mask_token': torch.zeros(1, 1, 64), 'decoder_embed.weight': torch.zeros(64, 128)}
        return dict(model=vit | decoder | {'decoder_blocks.0.norm1.weight': torch.zeros(64)})
    if kind == 'deit':
        return dict(model=vit | {'head.weight': torch.zeros(10, 128), 'head.bias': torch.zeros(10)}, epoch=3)
    if kind == 'moco v3':
        encoders = prefixed(vit, 'module.base_encoder.') | prefixed(vit, 'module.momentum_encoder.')
        return dict(state_dict=encoders | {'module.predictor.0.weight': torch.zeros(2)}, arch='vit_small')
    if kind == 'lightning':
        return {'state_dict': prefixed(vit, 'model.backbone.'), 'pytorch-lightning_version': '2.0'}
    if kind == 'moby':
        swin = swin_of_microsoft()
        return dict(model=prefixed(swin, 'encoder.') | prefixed(swin, 'encoder_k.') | dict(queue1=torch.zeros(3)))
    if kind == 'simmim swin':
        return dict(
            model=prefixed(swin_of_microsoft(), 'encoder.')
            | {'encoder.mask_token': torch.zeros(1, 1, 24), 'decoder.0.weight': torch.zeros(2)}
        )
    if kind == 'dinov2':
        extra = dict(reg_tokens=4, init_values=0.1, no_embed_class=True)
        state = seeded(timm_vit(**extra)()).state_dict()
        state['register_tokens'] = state.pop('reg_token')
        positions = torch.cat((torch.full((1, 1, 128), 0.25), state['pos_embed']), dim=1)
        return state | dict(mask_token=torch.zeros(1, 128), pos_embed=positions)
    assert kind == 'timm swin'
    return swin_of_microsoft()


KINDS = {
    'dino': (
        'DINO’s code',
        ('student', 'teacher'),
        ('student (1 tensor)', 'teacher (1 tensor)', 'dino_loss (1 tensor)'),
    ),
    'ibot': ('iBOT’s or AttMask’s', ('student', 'teacher'), ('student (1', 'teacher (1', 'ibot_loss (1 tensor)')),
    'mae': ('MAE’s code, with its decoder', ('student',), ('decoder_embed (1 tensor)', 'decoder_blocks (1 tensor)')),
    'deit': ('timm’s names for a ViT', ('student',), ('head (2 tensors)',)),
    'moco v3': ('MoCo v3’s code', ('student', 'teacher'), ('predictor (1 tensor)',)),
    'lightning': ('PyTorch Lightning', ('student',), ()),
    'moby': ('MoBY’s code', ('student', 'teacher'), ('queue1 (1 tensor)',)),
    'simmim swin': ('SimMIM’s code', ('student',), ('decoder (1 tensor)',)),
    'dinov2': ('DINOv2’s code, with registers', ('student',), ()),
    'timm swin': ('timm’s or Microsoft’s names for a Swin', ('student',), ()),
}


@pytest.mark.parametrize('kind', KINDS)
def test_the_files_of_programs(tmp_path: Path, kind: str) -> None:
    words, branches, beside = KINDS[kind]
    torch.save(content_of(kind), tmp_path / 'a.pth')
    weights = read_weights(tmp_path / 'a.pth')
    assert words in weights.kind and tuple(weights.branches) == branches
    left = weights.left_out()
    assert len(left) == len(beside) and all(told.startswith(word) for told, word in zip(left, beside, strict=True))
    networks = open_networks(str(tmp_path / 'a.pth'))
    assert [network.branch for network in networks] == list(branches)
    offset = 0.1 if kind in ('dino', 'ibot') else 0.0
    assert all(network.interpolate_offset == offset for network in networks)
    with torch.no_grad():
        networks[-1](torch.zeros(1, 3, networks[-1].image_size, networks[-1].image_size))


def test_dinov2s_registers_and_positions(tmp_path: Path) -> None:
    content = content_of('dinov2')
    torch.save(content, tmp_path / 'a.pth')
    (network,) = open_networks(str(tmp_path / 'a.pth'))
    theirs = seeded(timm_vit(reg_tokens=4, init_values=0.1, no_embed_class=True)())
    state = dict(content)
    state['reg_token'] = state.pop('register_tokens')
    positions = state['pos_embed']
    state |= dict(pos_embed=positions[:, 1:], cls_token=state['cls_token'] + positions[:, :1])
    del state['mask_token']
    theirs.load_state_dict(state)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        found, expected = network(images), theirs.forward_features(images)
    torch.testing.assert_close(found.patch_tokens, expected[:, 5:], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.pooled, expected[:, 0], rtol=1e-5, atol=1e-5)


def test_several_encoders_of_which_none_is_the_teacher(tmp_path: Path) -> None:
    state = timm_state()
    torch.save(prefixed(state, 'one.') | prefixed(state, 'two.'), tmp_path / 'a.pth')
    with pytest.raises(UsageError, match=r"several encoders, behind 'one\.' and 'two\.', and nothing tells"):
        read_weights(tmp_path / 'a.pth')


@pytest.mark.parametrize('name', NETWORKS)
def test_a_file_goes_into_pre_training_as_a_checkpoint(tmp_path: Path, name: str) -> None:
    """What ``--pretrained``, ``load_from`` and evaluations take."""
    checkpoint = read_pretrained(file_of(name, tmp_path))
    assert branches_of(checkpoint) == ['student']
    assert any(key.startswith('backbone.') for key in checkpoint['state_dict'])


def test_what_the_user_says_counts_first(tmp_path: Path) -> None:
    source = file_of('hf ViTModel', tmp_path)
    heads = [read_weights(source, said=said).branches['student'].anatomy()[0].heads for said in (None, Hints(heads=4))]
    assert heads == [2, 4]


def test_the_order_of_a_swins_merging_goes_both_ways() -> None:
    weights = torch.randn(3, 40)
    to_ours, to_theirs = MERGING
    assert torch.equal(to_theirs(to_ours(weights)), weights) and torch.equal(to_ours(to_theirs(weights)), weights)
    # Channel 0 of the four patches: theirs is down the columns first, ours row by row.
    theirs = torch.tensor([float(patch * 10 + channel) for patch in range(4) for channel in range(2)])
    assert to_ours(theirs).tolist() == [0, 20, 10, 30, 1, 21, 11, 31]


def test_marks_tell_the_namings_apart(tmp_path: Path) -> None:
    """Each naming recognizes files of its own, and is the first that does."""
    found = {}
    for name in NETWORKS:
        (encoder,) = read_weights(file_of(name, tmp_path)).branches.values()
        found[name] = encoder.naming.name
    assert all(found[name].startswith(name.split()[0]) or 'beit' in name for name in found), found
    assert {found['timm beit'], found['timm beit, shared table']} == {'beit'}
    assert len({naming.__class__ for naming in NAMINGS}) == len(NAMINGS)


def test_the_code_of_dinov3(tmp_path: Path) -> None:
    """Its biases of keys are masked, and the periods of its rotation saved in half precision."""
    source = file_of('timm dinov3, biases', tmp_path)
    state = torch.load(source)
    code: dict[str, Tensor] = {'rope_embed.periods': (100 ** (torch.arange(16) / 16)).bfloat16()}
    for name, value in state.items():
        for timms, theirs in (('reg_token', 'storage_tokens'), ('gamma_1', 'ls1.gamma'), ('gamma_2', 'ls2.gamma')):
            name = name.replace(timms, theirs)
        code[name] = value
    for i in range(2):
        queries, values = (code.pop(f'blocks.{i}.attn.{part}_bias') for part in 'qv')
        code[f'blocks.{i}.attn.qkv.bias'] = torch.cat((queries, torch.full_like(queries, 3.0), values))
        code[f'blocks.{i}.attn.qkv.bias_mask'] = torch.ones(384)
    torch.save(code | {'mask_token': torch.zeros(1, 128)}, tmp_path / 'code.pth')
    weights = read_weights(tmp_path / 'code.pth')
    assert weights.kind == 'DINOv3’s code' and weights.branches['student'].naming.name == 'dinov3'
    (ours,), (as_timms,) = (open_networks(str(path)) for path in (tmp_path / 'code.pth', source))
    images = torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        assert torch.equal(ours(images).patch_tokens, as_timms(images).patch_tokens)
        reference: Any = timm.create_model('vit_small_patch16_dinov3_qkvb', **VIT, mlp_ratio=2).eval()
        reference.load_state_dict(state)
        expected = reference.forward_features(images)[:, 5:]
    torch.testing.assert_close(ours(images).patch_tokens, expected, rtol=1e-5, atol=1e-5)
    torch.save(code | {'rope_embed.periods': 50 ** (torch.arange(16) / 16)}, tmp_path / 'other.pth')
    with pytest.raises(UsageError, match='rotary positions have the base 50, not 100'):
        read_weights(tmp_path / 'other.pth')
