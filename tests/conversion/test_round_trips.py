"""From each library to each other one and back: every tensor, and the features of the library's own networks.

The weights of releases cannot be had here: each file is written by the real package's network with seeded weights.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from mstkit.conversion import LIBRARIES, Difference, convert
from mstkit.conversion.gate import TOLERANCE
from mstkit.errors import UsageError
from mstkit.formats import read_weights
from mstkit.formats.naming import COMPUTED

from .networks import NETWORKS, file_of

# Formats that have no network for it, with what the message names.
WITHOUT: dict[str, dict[str, str]] = {
    'timm vit, registers with positions': dict(torchvision='registers', mmpretrain='registers', dino='registers'),
    'timm vit, registers without positions': dict(torchvision='registers', mmpretrain='registers', dino='registers'),
    'timm vit, pooled patches': dict(hf='no class token', torchvision='no class token', dino='no class token'),
    'timm vit, pooled patches, registers': dict(
        hf='no class token', torchvision='no class token', dino='no class token', mmpretrain='registers'
    ),
    'timm vit, gated': dict(torchvision='LayerScale', dino='gated feed-forward networks'),
    **{
        name: dict(torchvision='relative positions', dino='relative positions')
        for name in NETWORKS
        if 'beit' in name.lower()
    },
    'hf Dinov2Model': dict(torchvision='LayerScale', dino='LayerScale'),
    'hf Dinov2Model, gated': dict(torchvision='LayerScale', dino='LayerScale'),
    **{
        name: dict(torchvision='rotary positions', mmpretrain='rotary positions', dino='rotary positions')
        for name in NETWORKS
        if 'dinov3' in name.lower()
    },
    'hf Dinov2WithRegistersModel': dict(torchvision='registers', mmpretrain='registers', dino='registers'),
}
SUFFIXES = dict(torchvision='.pth', mmpretrain='.pth', dino='.pth', safetensors='.safetensors')


def out(folder: Path, to: str) -> Path:
    return folder / f'{to}{SUFFIXES.get(to, "")}'


@pytest.mark.parametrize('name', NETWORKS)
def test_to_every_library_and_back(tmp_path: Path, name: str) -> None:
    source = file_of(name, tmp_path)
    read = read_weights(source)
    (encoder,) = read.branches.values()
    used = len(encoder.theirs) + len(read.rest) + (encoder.mask_token is not None)
    computed = sum(bool(COMPUTED.fullmatch(key.removeprefix('state_dict.'))) for key in read.file.tensors)
    assert used + computed >= len(read.file.tensors), 'a tensor of the file is in no list'
    absent = WITHOUT.get(name, {})
    for to in LIBRARIES:
        path = out(tmp_path, to)
        if to in absent:
            with pytest.raises(UsageError, match=f'has no (ViT|Swin) with .*{absent[to]}'):
                convert(str(source), to, path)
            assert not path.exists()
            continue
        done = convert(str(source), to, path)
        (written,) = done.written.values()
        assert isinstance(written, Difference) and written.largest() <= TOLERANCE
        assert done.read is not None and done.read.largest() <= TOLERANCE, done.notes
        assert not [left for left in tmp_path.iterdir() if left.name.startswith('.')], 'a half file is left'
        # Back: what is read from it is what was read before, tensor by tensor, as far as it is not added.
        (again,) = read_weights(path).branches.values()
        same_tensors(encoder.state, again.state, to)


def same_tensors(before: dict[str, Any], after: dict[str, Any], to: str) -> None:
    """Equal tensors; where biases of keys or neutral factors were added, those are neutral."""
    for name, value in before.items():
        if name.endswith('.qkv.bias') and name not in after:
            assert torch.equal(after[name.replace('qkv.bias', 'q_bias')], value.chunk(3)[0])
            assert torch.equal(after[name.replace('qkv.bias', 'v_bias')], value.chunk(3)[2])
        elif name.endswith(('.q_bias', '.v_bias')) and name not in after:
            whole = after[re.sub(r'[qv]_bias$', 'qkv.bias', name)].chunk(3)
            assert torch.equal(whole[0 if name.endswith('q_bias') else 2], value) and not whole[1].any()
        elif name == 'cls_token' and {'register_tokens', 'pos_embed'} <= before.keys() and to == 'timm':
            total = value + before['pos_embed'][:, :1]
            torch.testing.assert_close(after[name] + after['pos_embed'][:, :1], total)
        elif name == 'pos_embed' and 'register_tokens' in before and to == 'timm':
            assert torch.equal(after[name][:, 1:], value[:, 1:])
        elif name.endswith('.qkv.bias') and to in ('timm', 'hf'):
            theirs, own = after[name].chunk(3), value.chunk(3)
            assert torch.equal(theirs[0], own[0]) and torch.equal(theirs[2], own[2])
        else:
            assert torch.equal(after[name], value), name
    for name in after.keys() - before.keys():
        if not name.endswith(('q_bias', 'v_bias', 'qkv.bias')):
            assert re.search(r'gamma[12]\.weight$', name) and bool((after[name] == 1).all()), name
