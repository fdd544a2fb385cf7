"""Draws masks of masking strategies: ``mstkit masks CONFIG --checkpoint F --images DIR``.

Writes a contact sheet of all strategies on the same images with the same attention (masks.png), and a table with the
shares of patches and attention that they hide and the connectedness of masks (masks.md, masks.csv). The strategies are
the named maskers of configs/_base_/ablation_choices.py and the config's own.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)

# isort: split
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from torch import Tensor

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
from mstkit.engine.config.config_options import OptionsAction, apply_options
from mstkit.engine.launch.launch import read_config
from mstkit.errors import UsageError, exit_cleanly
from mstkit.interop import BRANCH_PREFIXES, branch_state, branches_of, load_strict, read_checkpoint
from mstkit.models import Masker, Pretrainer
from mstkit.models.backbones import MaskedBackbone
from mstkit.models.guides import CachedGuide, GuideRequest, StudentGuide, build_guide
from mstkit.models.maskers.functional import coarser
from mstkit.models.maskers.masker_choice import OWN, choose_maskers
from mstkit.models.part_checks import check_throwing
from mstkit.networks import FrozenGuide
from mstkit.registry import MODELS
from mstkit.structures import MaskContext
from mstkit.utils.build_errors import build_guard, component_called
from mstkit.utils.config_parts import hook_configs
from mstkit.utils.files import write_atomically
from mstkit.utils.output_paths import output_folder
from mstkit.utils.progress_bar import track
from mstkit.utils.shipped_files import shipped
from mstkit.visualization.mask_sheet import draw_mask_sheet

GROUP = 'look'  # of mstkit --help

CHOICES = shipped('configs/_base_/ablation_choices.py')
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
    parser.add_argument('--cfg-options', nargs='+', action=OptionsAction, metavar='KEY=VALUE', help='overrides')
    args = parser.parse_args()
    for name, least in (('num_images', 1), ('max_images', 1), ('draws', 1), ('epoch', 0), ('seed', 0)):
        value = vars(args).get(name, least)
        if value < least:
            raise UsageError(f'--{name.replace("_", "-")} is {value}; it must be at least {least}.')
    return args


def build_method(config: Config, checkpoint: str | None, branch: str | None, seed: int) -> tuple[Pretrainer, str]:
    """The method with its guide, in evaluation mode, and whose weights it has; prints what was loaded.

    Its guide ranks patches as in training. What reads a teacher's or an average's attention there, reads that of the
    backbone, which has the weights of one branch. A guide with a trained part of its own needs the whole checkpoint.
    """
    with build_guard():
        kind = component_called(str(config.model.backbone.get('type')), MODELS)
        if kind is not None and not issubclass(kind, MaskedBackbone):
            raise UsageError(f'backbone {kind.__name__} gives no attention that could guide a masker.')
        torch.manual_seed(seed)
        guide = build_guide(config.model.get('guide', 'teacher'))
        if guide is None or (guide.reads_backbone and not guide.reads_objective):
            guide = StudentGuide(None if guide is None else guide.given_score)
        model = MODELS.build({**config.model, 'masker': GuideRequest(), 'guide': guide})
    if not isinstance(model, Pretrainer):
        raise UsageError(f'{type(model).__name__} is no method of mstkit with a masker.')
    whose = ''
    if checkpoint is None:
        MMLogger.get_current_instance().setLevel('WARNING')  # else a paragraph for every tensor
        model.init_weights()
        return model.eval(), whose
    weights = read_checkpoint(checkpoint)
    if model.guide.from_tokens:  # its predictor is a part of the teacher
        whose = 'teacher'
        if branch == 'student':
            raise UsageError(f"--branch is student, but the scores of {type(model.guide).__name__} are the teacher's.")
        prefix, state = f'{whose}.', weights['state_dict']
        own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        print(load_strict(model.teacher, own, whose))
        return model.eval(), whose
    if model.guide.reads_objective:
        if branch is not None:
            name = type(model.guide).__name__
            raise UsageError(f'--branch is {branch}, but {name} needs the whole method: leave --branch out.')
        print(load_strict(model, weights['state_dict'], type(model).__name__))
        return model.eval(), whose
    whose = branch or ['student', *branches_of(weights)][-1]
    print(load_strict(model.backbone, branch_state(weights, whose), whose))  # type: ignore[arg-type]
    return model.eval(), whose


def said_of(model: Pretrainer, checkpoint: str | None, whose: str) -> str:
    """What the scores on the sheet are, in a sentence."""
    guide = model.guide.guide if isinstance(model.guide, CachedGuide) else model.guide
    if isinstance(guide, FrozenGuide):
        return f'Attention: {guide.source}, mean over heads.'
    if checkpoint is None:
        return 'NO CHECKPOINT WAS GIVEN: the network is random, and its attention means nothing yet.'
    if guide.from_tokens:
        return f'Scores, in place of attention: the loss of each patch that the {whose} of {checkpoint} predicts.'
    if guide.reads_objective:
        return (
            f'Scores, in place of attention: what {type(guide).__name__} makes of it, with the weights of {checkpoint}.'
        )
    of = ' received from all patches,' if guide.score == 'received' else ''
    return f'Attention:{of} {whose} of {checkpoint}, mean over heads.'


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
def mask_contexts(model: Pretrainer, images: Tensor, layer: int, batch: int = BATCH) -> list[MaskContext]:
    """The contexts of maskers for images (M, 3, H, W) uint8, with the guide's scores of one block, batch by batch.

    The grid is that of the cells that are masked together. Contexts are on the CPU, so that masks do not depend on the
    device.
    """
    seen, asking = [], GuideRequest(layer=layer, tokens=True)
    device = next(model.parameters()).device
    for part in track(images.split(batch), -(-len(images) // batch), 'computing attention'):
        views = model.data_preprocessor(dict(inputs=[part.to(device)], data_samples=[]))['inputs'][0]
        tokens = model.guide.encode(model, views, asking)
        context = MaskContext(views.cpu(), tokens.grid, tokens.patch_tokens.cpu(), tokens.attention.cpu())
        seen.append(coarser(context, model.mask_cell))
    return seen


def fitting(strategies: dict[str, Masker], model: Pretrainer, size: int, optional: bool) -> dict[str, Masker]:
    """The strategies that fit method and grid; others are left out with a line if ``optional``, else an error."""
    model.backbone.check_image_size(size, masked=True)
    kept = {}
    for name, masker in strategies.items():
        try:
            check_throwing(masker, model.encoder_sees, type(model).__name__)
            masker.check_view(model.backbone, size, model.mask_cell)
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
    scores: str,
) -> None:
    """Draws a mask of each strategy on the same images, using draws that hide at least one patch.

    ``scores`` is what the columns of scores are called.
    """
    masks, without = {}, []
    drawn = max(summary.masks for summary in table.values()) // args.draws
    for name, masker in strategies.items():
        mask, masked = draw_until_masked(masker, seen[masker.layer], args.seed, args.epoch, TRIES)
        hides = 'hides nothing' if math.isnan(table[name].hidden) else f'hides {100 * table[name].hidden:.1f} %'
        hides += f'\nthrows {100 * table[name].thrown:.1f} %' if table[name].thrown else ''
        masks[f'{name}\n{hides}' + (f'\nlayer {masker.layer}' if len(seen) > 1 else '')] = mask
        without += [] if masked.all() else [name]
    attention = {
        scores if list(seen) == [-1] else f'{scores}\nlayer {layer}': importance_map(tokens)
        for layer, tokens in seen.items()
    }
    throwing = '; nearly black: thrown, neither seen nor predicted' if any(one.thrown for one in table.values()) else ''
    caption = [
        f'Gray with stripes: hidden{throwing}. Each image is shown in the first draw in which the strategy masks it, '
        'so this sheet has none of the images that some strategies leave whole; the table has. The percentage is the '
        f'mean share of patches over the masked ones of {args.draws} draws for each of {drawn} images.'
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
    (model, whose), view = build_method(config, args.checkpoint, args.branch, args.seed), view_of(config)
    model.to('cuda' if torch.cuda.is_available() else 'cpu')
    strategies = fitting(strategies, model, view['crop'], args.strategies is None)
    if not strategies:
        raise UsageError(f'no strategy fits the {view["crop"]} px of {args.config}.')
    images, unreadable = read_images(args.images, [view], args.max_images)

    for masker in strategies.values():
        masker.set_progress(progress_at(args.seed, 0, args.epoch))  # a schedule's block depends on the epoch
    layers = sorted({masker.layer for masker in strategies.values()}, reverse=True)
    seen = {layer: mask_contexts(model, images, layer) for layer in layers}
    table = {
        name: measure_masker(masker, seen[masker.layer], args.seed, args.draws, args.epoch)
        for name, masker in track(strategies.items(), len(strategies), 'masking')
    }
    count = min(args.num_images, len(images))
    shown = images[[index * len(images) // count for index in range(count)]]
    closely = {layer: mask_contexts(model, shown, layer, count)[0] for layer in layers}

    changes = ', '.join(f'{key}={value}' for key, value in (args.cfg_options or {}).items())
    title = [f'Masks for {args.config}' + (f' with {changes}.' if changes else '.')]
    title[0] += f' {same} is its own masker.' if same else ''
    title.append(said_of(model, args.checkpoint, whose))
    scores = 'predicted loss' if model.guide.from_tokens else 'score' if model.guide.reads_objective else 'attention'
    draw_sheet(args, shown, closely, strategies, table, title, scores)
    notes = [f'{len(images)} images of {args.images}, {args.draws} draws each, seed {args.seed}, epoch {args.epoch}.']
    notes += [f'{len(unreadable)} files cannot be read: {"; ".join(unreadable)}'] if unreadable else []
    page = [*title, *notes, markdown_table(table), EXPLANATION, f'![The masks]({NAME}.png)']
    write_atomically(Path(args.out) / f'{NAME}.md', ('\n\n'.join(page) + '\n').encode())
    write_atomically(Path(args.out) / f'{NAME}.csv', csv_table(table).encode())
    print('\n'.join([*title, *notes, '', markdown_table(table), '']))
    print(f'written: {Path(args.out) / NAME}.png, .md (which says what the columns mean), .csv')
