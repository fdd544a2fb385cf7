"""Files that are no encoder, or not a whole one: one line each, with what is wrong, and nothing is written."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn

from mstkit.commands import convert_command

from ..conversion.networks import VIT, file_of


def encoder() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return timm.create_model('vit_small_patch16_224', **VIT).state_dict()


def changed(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Path]:
    """A file with an encoder that is not as it should be."""

    def write(folder: Path) -> Path:
        state: dict[str, Any] = encoder()
        change(state)
        torch.save(state, folder / 'a.pth')
        return folder / 'a.pth'

    return write


def text(content: str | bytes, name: str = 'a.pth') -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def saved(content: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        torch.save(content, folder / 'a.pth')
        return folder / 'a.pth'

    return write


def truncated(folder: Path) -> Path:
    torch.save(encoder(), folder / 'a.pth')
    content = (folder / 'a.pth').read_bytes()
    (folder / 'a.pth').write_bytes(content[: len(content) // 2])
    return folder / 'a.pth'


def truncated_safetensors(folder: Path) -> Path:
    save_file(encoder(), folder / 'a.safetensors')
    content = (folder / 'a.safetensors').read_bytes()
    (folder / 'a.safetensors').write_bytes(content[: len(content) // 2])
    return folder / 'a.safetensors'


def sharded(folder: Path) -> Path:
    """A folder in parts, of which one is missing."""
    whole = file_of('hf ViTModel', folder)
    model = transformers.ViTModel.from_pretrained(whole)
    shutil.rmtree(whole)
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder / 'parts', max_shard_size='200KB')
    parts = sorted((folder / 'parts').glob('model-*.safetensors'))
    assert len(parts) > 2
    parts[1].unlink()
    return folder / 'parts'


def folder_without(name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        whole = file_of('hf ViTModel', folder)
        (whole / name).unlink()
        return whole

    return write


def other_activation(folder: Path) -> Path:
    whole = file_of('hf ViTModel', folder)
    settings = json.loads((whole / 'config.json').read_text())
    (whole / 'config.json').write_text(json.dumps(settings | dict(hidden_act='quick_gelu')))
    return whole


def extra_tensors(folder: Path) -> Path:
    extra = {'blocks.0.attn.q_norm.weight': torch.ones(64), 'blocks.1.attn.q_norm.weight': torch.ones(64)}
    save_file(encoder() | extra, folder / 'a.safetensors')
    return folder / 'a.safetensors'


def arrays(folder: Path) -> Path:
    np.savez(folder / 'a.npz', kernel=np.zeros(3))
    return folder / 'a.npz'


def gated_dinov3(folder: Path) -> Path:
    """As its ViT-H+."""
    settings = dict(hidden_size=128, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    config = transformers.DINOv3ViTConfig(**settings, image_size=32, patch_size=8, use_gated_mlp=True)
    transformers.utils.logging.disable_progress_bar()
    transformers.DINOv3ViTModel(config).save_pretrained(folder / 'a')
    return folder / 'a'


WRONG: dict[str, tuple[Callable[[Path], Path], str]] = {
    'no such file': (lambda folder: folder / 'none.pth', r'there is no file .*none\.pth'),
    'empty': (text(''), 'it is empty'),
    'an HTML page': (text('<!DOCTYPE html><html><body>404</body></html>'), 'an HTML page, as a server sends in place'),
    'a pointer of Git LFS': (
        text('version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n'),
        'a pointer of Git LFS, which names the file: fetch the file itself',
    ),
    'JSON': (text('{"a": 1}'), 'it is JSON: give the file of weights'),
    'an index without its parts': (text('{"weight_map": {}}', 'model.safetensors.index.json'), 'give the folder'),
    'compressed': (lambda folder: text(gzip.compress(b'x' * 99), 'a.pth.gz')(folder), 'compressed with gzip: unpack'),
    'arrays of JAX': (arrays, 'an archive of NumPy arrays'),
    'truncated': (truncated, 'not a readable checkpoint, or it is truncated'),
    'truncated safetensors': (truncated_safetensors, 'not readable as safetensors, or it is truncated'),
    'code inside': (saved(dict(model=encoder(), args=print)), 'is refused: .*Nothing in it was executed'),
    'a whole module': (saved(nn.Linear(2, 2)), 'is refused: .*Nothing in it was executed'),
    'an optimizer alone': (
        saved(torch.optim.AdamW(nn.Linear(2, 2).parameters()).state_dict()),
        'holds no tensors by name',
    ),
    'no tensors': (saved(dict(epoch=3)), r"holds no tensors by name \(found keys \['epoch'\]\)"),
    'a residual network': (
        saved(timm.create_model('resnet18').state_dict()),
        'no encoder is recognized .*a residual network’s names',
    ),
    'a tensor missing': (changed(lambda state: state.pop('blocks.1.mlp.fc1.bias')), 'misses .*layers.1.*0.0.bias'),
    'a block missing': (
        changed(lambda state: [state.pop(name) for name in list(state) if name.startswith('blocks.0.mlp')]),
        'feed-forward network',
    ),
    'another width in one tensor': (
        changed(lambda state: state.update({'norm.weight': torch.ones(64)})),
        'has another shape for ln1.weight',
    ),
    'four channels': (
        changed(lambda state: state.update({'patch_embed.proj.weight': torch.zeros(128, 4, 8, 8)})),
        'takes 4 channels; mstkit reads images in RGB',
    ),
    'a width that tells no heads': (
        saved(timm.create_model('vit_small_patch16_224', **{**VIT, 'embed_dim': 48, 'num_heads': 3}).state_dict()),
        'how many attention heads its blocks of width 48 have: give --num-heads',
    ),
    'parts of the encoder that mstkit lacks': (extra_tensors, r'2 tensors of the encoder \(blocks\.0\.attn\.q_norm'),
    'a distilled DeiT': (
        changed(lambda state: state.update(dist_token=torch.zeros(1, 1, 128))),
        r'1 tensor of the encoder \(dist_token\) have no place',
    ),
    'a folder in parts, one missing': (sharded, r'is incomplete: model-0000.*which .*index\.json names, is missing'),
    'a folder without weights': (folder_without('model.safetensors'), 'a folder without weights that are known'),
    'another activation': (other_activation, "its activation is 'quick_gelu'; the networks of mstkit have GELU"),
    'a gated DINOv3': (
        gated_dinov3,
        r'2 tensors of the encoder \(layer\.0\.mlp\.gate_proj\.bias.* have no place in the ViT',
    ),
}


@pytest.mark.parametrize('name', WRONG)
def test_one_line_and_nothing_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    write, message = WRONG[name]
    source = write(tmp_path)
    capsys.readouterr()
    before = sorted(tmp_path.rglob('*'))
    monkeypatch.setattr('sys.argv', ['mstkit convert', str(source), '--to', 'timm', '--out', str(tmp_path / 'out')])
    with pytest.raises(SystemExit) as caught:
        convert_command.main()
    printed = capsys.readouterr()
    assert caught.value.code in (2, 3) and printed.out == ''
    (line,) = printed.err.strip().splitlines()
    assert re.search(message, line), line
    assert len(line) < 700 and sorted(tmp_path.rglob('*')) == before


def test_a_folder_without_its_config_is_read_by_its_names(tmp_path: Path) -> None:
    """What no tensor tells is assumed, and said."""
    # imported here: the other tests of this file write nothing
    from mstkit.conversion import convert

    source = folder_without('config.json')(tmp_path)
    done = convert(str(source), 'timm', tmp_path / 'out')
    assert '2 attention heads are assumed' in done.notes[0] and done.read is not None
