"""Draws masks of masking strategies: ``python tools/analysis/preview_masks.py CONFIG --checkpoint F --images DIR``.

Writes a contact sheet of all strategies on the same images with the same attention (masks.png), and a table with the
shares of patches and attention that they hide and the connectedness of masks (masks.md, masks.csv). The strategies are
the named maskers of configs/_base_/ablation_choices.py and the config's own.
"""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

import argparse
import math
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger
from torch import Tensor, nn

from mstkit.analysis import (
    EXPLANATION,
    MaskSummary,
    csv_table,
    draw_until_masked,
    importance_map,
    markdown_table,
    measure_masker,
    progress_at,
)
from mstkit.datasets.plain_reading import read_images
from mstkit.engine.config.config_options import apply_options
from mstkit.engine.launch.launch import read_config
from mstkit.errors import UsageError, exit_cleanly
from mstkit.interop import BRANCH_PREFIXES, branch_state, branches_of, load_strict, read_checkpoint
from mstkit.models import Masker
from mstkit.models.backbones import MaskedBackbone
from mstkit.models.maskers.functional import coarser
from mstkit.models.maskers.masker_choice import OWN, choose_maskers
from mstkit.models.part_checks import cell_of
from mstkit.registry import MODELS
from mstkit.structures import MaskContext
from mstkit.utils.build_errors import build_guard
from mstkit.utils.config_parts import hook_configs
from mstkit.utils.files import write_atomically
from mstkit.utils.output_paths import output_folder
from mstkit.utils.progress_bar import track
from mstkit.visualization.mask_sheet import draw_mask_sheet

CHOICES = Path(__file__).resolve().parents[2] / 'configs' / '_base_' / 'ablation_choices.py'
NAME = 'masks'
TRIES = 64
BATCH = 8  # small, because AttMask draws one ratio per batch and the table should average over many ratios


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='a config of a pre-training: its network, its image size, its masker')
    parser.add_argument('--checkpoint', metavar='F', help='weights for the network; without them it is random')
    parser.add_argument(
        '--branch', choices=tuple(BRANCH_PREFIXES), help='whose attention is used; the teacher where there is one'
    )
    parser.add_argument('--images', required=True, metavar='DIR', help='a folder of images, in any depth')
    parser.add_argument('--strategies', metavar='A,B,C', help=f'only these; {OWN!r} is the masker of the config')
    parser.add_argument('--num-images', type=int, default=8, metavar='N', help='images on the sheet')
    parser.add_argument('--max-images', type=int, default=256, metavar='N', help='images that the table averages over')
    parser.add_argument('--draws', type=int, default=4, metavar='N', help='masks per image in the table')
    parser.add_argument('--epoch', type=int, default=0, metavar='N', help='for maskers that change over a run; from 0')
    parser.add_argument('--seed', type=int, default=0, help='of the masks, and of a random network')
    parser.add_argument('--out', default='work_dirs/preview_masks', metavar='DIR', help='where the files go')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='overrides')
    args = parser.parse_args()
    for name, least in (('num_images', 1), ('max_images', 1), ('draws', 1), ('epoch', 0), ('seed', 0)):
        if getattr(args, name, least) < least:
            raise UsageError(f'--{name.replace("_", "-")} is {getattr(args, name)}; it must be at least {least}.')
    return args


def build_network(config: Config, checkpoint: str | None, branch: str | None, seed: int) -> tuple[Any, str]:
    """The backbone whose attention guides the maskers, in evaluation mode, and its name; prints what was loaded."""
    with build_guard():
        backbone = MODELS.build(config.model.backbone)
    if not isinstance(backbone, MaskedBackbone) or not backbone.provides_attention:
        raise UsageError(f'backbone {type(backbone).__name__} gives no attention that could guide a masker.')
    assert isinstance(backbone, nn.Module)
    whose = ''
    if checkpoint is None:
        MMLogger.get_current_instance().setLevel('WARNING')  # else a paragraph for every tensor
        torch.manual_seed(seed)
        backbone.init_weights()  # type: ignore[operator]
    else:
        weights = read_checkpoint(checkpoint)
        whose = branch or ['student', *branches_of(weights)][-1]
        print(load_strict(backbone, branch_state(weights, whose), whose))
    return backbone.eval().to('cuda' if torch.cuda.is_available() else 'cpu'), whose


def view_of(config: Config) -> dict[str, Any]:
    """The CenterView of the config's evaluation; by default one of the backbone's image size."""
    for _, hook in hook_configs(config):
        for step in (hook.get('val_dataset') or {}).get('pipeline', ()):
            if str(step.get('type')).split('.')[-1] == 'CenterView':
                return {'resize': 256, 'crop': 224, **step}
    size = config.model.backbone.get('img_size', 224)
    size = size if isinstance(size, int) else size[0]
    return dict(type='CenterView', resize=round(size * 256 / 224), crop=size)


@torch.no_grad()
def mask_contexts(
    backbone: Any, preprocess: nn.Module, images: Tensor, layer: int, batch: int = BATCH, cell: int = 1
) -> list[MaskContext]:
    """The contexts of maskers for images (M, 3, H, W), with the attention of one block, batch by batch.

    The grid is that of cells of ``cell`` x ``cell`` patches, which are masked together. Contexts are on the CPU, so
    that masks do not depend on the device.
    """
    seen, device = [], next(backbone.parameters()).device
    for part in track(images.split(batch), -(-len(images) // batch), 'computing attention'):
        views = preprocess(dict(inputs=part, data_samples=[]))['inputs'].to(device)
        tokens = backbone.forward_tokens(views, return_attention=True, attention_layer=layer)
        context = MaskContext(views.cpu(), tokens.grid, tokens.patch_tokens.cpu(), tokens.attention.cpu())
        seen.append(coarser(context, cell))
    return seen


def fitting(
    strategies: dict[str, Masker], backbone: Any, size: int, optional: bool, cell: int = 1
) -> dict[str, Masker]:
    """The strategies that fit the network's grid; others are left out with a line if ``optional``, else an error."""
    backbone.check_image_size(size, masked=True)
    kept = {}
    for name, masker in strategies.items():
        try:
            masker.check_view(backbone, size, cell)
        except UsageError as error:
            if not optional or name == OWN:
                raise
            print(f'{name} is left out: {error}')
        else:
            kept[name] = masker
    return kept


def draw_sheet(
    args: argparse.Namespace,
    images: Tensor,
    seen: dict[int, MaskContext],
    strategies: dict[str, Masker],
    table: dict[str, MaskSummary],
    title: list[str],
) -> None:
    """Draws a mask of each strategy on the same images, using draws that hide at least one patch."""
    masks, without = {}, []
    drawn = max(summary.masks for summary in table.values()) // args.draws
    for name, masker in strategies.items():
        mask, masked = draw_until_masked(masker, seen[masker.layer], args.seed, args.epoch, TRIES)
        hides = 'hides nothing' if math.isnan(table[name].hidden) else f'hides {100 * table[name].hidden:.1f} %'
        masks[f'{name}\n{hides}' + (f'\nlayer {masker.layer}' if len(seen) > 1 else '')] = mask
        without += [] if masked.all() else [name]
    attention = {
        'attention' if list(seen) == [-1] else f'attention\nlayer {layer}': importance_map(tokens)
        for layer, tokens in seen.items()
    }
    caption = [
        'Gray with stripes: hidden. Each image is shown in the first draw in which the strategy masks it, so this '
        'sheet has none of the images that some strategies leave whole; the table has. The percentage is the mean '
        f'share of patches over the masked ones of {args.draws} draws for each of {drawn} images.'
    ]
    caption += [f'In {TRIES} draws, some image was never masked by {", ".join(without)}.'] if without else []
    draw_mask_sheet(images, attention, masks, Path(args.out) / f'{NAME}.png', title, caption)


@exit_cleanly
def main() -> None:
    """Reads images, computes attention, draws masks, and writes sheet and table."""
    args = parse_args()
    output_folder('--out', args.out)
    config = read_config(args.config)
    for note in apply_options(config, args.cfg_options or {}):
        print(note)
    if not isinstance(config.get('model'), dict) or 'backbone' not in config.model:
        raise UsageError(f'config {args.config} has no model.backbone; give the config of a pre-training.')
    with build_guard():
        named = read_config(CHOICES)['choices']['model.masker']
        strategies, same = choose_maskers(named, config.model.get('masker'), args.strategies)
    (backbone, whose), view = build_network(config, args.checkpoint, args.branch, args.seed), view_of(config)
    cell = cell_of(config.model.get('mask_patch_size'), backbone, 'model')
    strategies = fitting(strategies, backbone, view['crop'], args.strategies is None, cell)
    if not strategies:
        raise UsageError(f'no strategy fits the {view["crop"]} px of {args.config}.')
    images, unreadable = read_images(args.images, [view], args.max_images)

    normalization = config.model.get('data_preprocessor') or config.get('data_preprocessor') or {}
    preprocess = MODELS.build({'type': 'SelfSupDataPreprocessor', **normalization})
    for masker in strategies.values():
        masker.set_progress(progress_at(args.seed, 0, args.epoch))  # a schedule's block depends on the epoch
    layers = sorted({masker.layer for masker in strategies.values()}, reverse=True)
    seen = {layer: mask_contexts(backbone, preprocess, images, layer, cell=cell) for layer in layers}
    table = {
        name: measure_masker(masker, seen[masker.layer], args.seed, args.draws, args.epoch)
        for name, masker in track(strategies.items(), len(strategies), 'masking')
    }
    count = min(args.num_images, len(images))
    shown = images[[index * len(images) // count for index in range(count)]]
    closely = {layer: mask_contexts(backbone, preprocess, shown, layer, count, cell)[0] for layer in layers}

    changes = ', '.join(f'{key}={value}' for key, value in (args.cfg_options or {}).items())
    title = [f'Masks for {args.config}' + (f' with {changes}.' if changes else '.')]
    title[0] += f' {same} is its own masker.' if same else ''
    title += [
        'NO CHECKPOINT WAS GIVEN: the network is random, and its attention means nothing yet.'
        if args.checkpoint is None
        else f'Attention: {whose} of {args.checkpoint}, mean over heads.'
    ]
    draw_sheet(args, shown, closely, strategies, table, title)
    notes = [f'{len(images)} images of {args.images}, {args.draws} draws each, seed {args.seed}, epoch {args.epoch}.']
    notes += [f'{len(unreadable)} files cannot be read: {"; ".join(unreadable)}'] if unreadable else []
    page = [*title, *notes, markdown_table(table), EXPLANATION, f'![The masks]({NAME}.png)']
    write_atomically(Path(args.out) / f'{NAME}.md', ('\n\n'.join(page) + '\n').encode())
    write_atomically(Path(args.out) / f'{NAME}.csv', csv_table(table).encode())
    print('\n'.join([*title, *notes, '', markdown_table(table), '']))
    print(f'written: {Path(args.out) / NAME}.png, .md (which says what the columns mean), .csv')


if __name__ == '__main__':
    main()
