"""Converts networks of released sizes between all formats and prints the largest differences as a table.

The weights of releases are not needed: each network is the real package's own, with seeded weights, saved as that
package saves it. Each cell is the largest difference of class token and patch tokens between the network of that
format, loaded strictly from the written file, and mstkit's, relative to features above one; the first column is that of
reading, against the package's own network. "none" is a format that has no such network.
"""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
import transformers

from mstkit.conversion import LIBRARIES, ONNX, Difference, convert
from mstkit.errors import UsageError, exit_cleanly
from mstkit.registry import MODELS

SUFFIXES = dict(torchvision='.pth', mmpretrain='.pth', dino='.pth', safetensors='.safetensors', onnx='.onnx')
SMALL: dict[str, Any] = dict(hidden_size=384, num_hidden_layers=12, num_attention_heads=6)
NETWORKS: dict[str, Callable[[], Any]] = {
    'timm vit_small_patch16_224': lambda: timm.create_model('vit_small_patch16_224', num_classes=0),
    'timm deit_small_patch16_224': lambda: timm.create_model('deit_small_patch16_224', num_classes=0),
    'timm vit_small_patch14_reg4_dinov2': lambda: timm.create_model('vit_small_patch14_reg4_dinov2', num_classes=0),
    'timm vit_medium_patch16_reg4_gap_256': lambda: timm.create_model('vit_medium_patch16_reg4_gap_256', num_classes=0),
    'timm swin_tiny_patch4_window7_224': lambda: timm.create_model('swin_tiny_patch4_window7_224', num_classes=0),
    'transformers ViTModel': lambda: transformers.ViTModel(
        transformers.ViTConfig(**SMALL, intermediate_size=1536, layer_norm_eps=1e-6)
    ),
    'transformers ViTMAEForPreTraining': lambda: transformers.ViTMAEForPreTraining(
        transformers.ViTMAEConfig(**SMALL, intermediate_size=1536, layer_norm_eps=1e-6)
    ),
    'transformers Dinov2WithRegistersModel': lambda: transformers.Dinov2WithRegistersModel(
        transformers.Dinov2WithRegistersConfig(**SMALL, patch_size=14, image_size=224)
    ),
    'transformers DINOv3ViTModel': lambda: transformers.DINOv3ViTModel(
        transformers.DINOv3ViTConfig(**SMALL, intermediate_size=1536, num_register_tokens=4)
    ),
    'transformers BeitModel': lambda: transformers.BeitModel(
        transformers.BeitConfig(**SMALL, intermediate_size=1536, use_relative_position_bias=True, layer_norm_eps=1e-6)
    ),
    'transformers SwinModel': lambda: transformers.SwinModel(transformers.SwinConfig()),
    'torchvision vit_b_16': torchvision.models.vit_b_16,
    'torchvision swin_t': torchvision.models.swin_t,
    'mmpretrain BEiTViT': lambda: MODELS.build(
        dict(type='mmpretrain.BEiTViT', arch='deit-small', use_rel_pos_bias=True, layer_scale_init_value=0.1)
    ),
}


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--to', nargs='+', default=[*LIBRARIES, ONNX], metavar='FORMAT', help='columns of the table')
    parser.add_argument('--only', default='', metavar='TEXT', help='networks with this in their name')
    parser.add_argument('--seed', type=int, default=0)
    return parser.parse_args()


def saved(network: Any, path: Path) -> Path:
    """Saves a network as its package does."""
    if isinstance(network, transformers.PreTrainedModel):
        transformers.utils.logging.disable_progress_bar()
        network.save_pretrained(path)
        return path
    torch.save(network.state_dict(), path.with_suffix('.pth'))
    return path.with_suffix('.pth')


def row(name: str, build: Callable[[], Any], formats: list[str], seed: int) -> list[str]:
    """The cells of one network: its reading, then each format."""
    torch.manual_seed(seed)
    network = build()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    cells = ['?']
    with tempfile.TemporaryDirectory() as folder:
        source = saved(network, Path(folder) / 'source')
        del network
        for to in formats:
            try:
                done = convert(str(source), to, Path(folder) / f'{to}{SUFFIXES.get(to, "")}')
            except UsageError as error:
                cells.append('none' if 'has no' in str(error) else str(error))
                continue
            cells[0] = '?' if done.read is None else f'{done.read.largest():.1e}'
            found = [one.largest() if isinstance(one, Difference) else one for one in done.written.values()]
            cells.append(f'{max(found):.1e}')
    return cells


@exit_cleanly
def main() -> None:
    """Prints the table."""
    args = parse_args()
    print('| network | read | ' + ' | '.join(args.to) + ' |')
    print('|---' * (len(args.to) + 2) + '|')
    for name, build in NETWORKS.items():
        if args.only in name:
            print(f'| {name} | ' + ' | '.join(row(name, build, args.to, args.seed)) + ' |', flush=True)


if __name__ == '__main__':
    main()
