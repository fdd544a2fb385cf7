"""What drawing a mask costs: python benchmarks/masks.py [CONFIG] [--batch-size 32] [--rounds 20]

Every named strategy of configs/_base_/ablation_choices.py draws the masks of a batch, by turns with a training step of
the config with a random mask. What a guide costs, whose scores or tokens some strategies need, is
benchmarks/guides.py's. See benchmarks/README.md.
"""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

import argparse
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from contest.json_line import machine, print_line
from contest.our_step import OurStep
from contest.turns import in_turn, median_ratio
from mmengine.logging import MMLogger

from mstkit.engine.launch.launch import read_config
from mstkit.errors import UsageError, exit_cleanly
from mstkit.models import Masker
from mstkit.models.maskers import build_masker
from mstkit.structures import MaskContext, Progress
from mstkit.utils.progress_bar import track

ROOT = Path(__file__).resolve().parents[1]
CONFIG = 'configs/mae/mae_vit-s_800e.py'
STEP = 'step'


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description='Drawing masks, in pairs with a training step.')
    parser.add_argument('config', nargs='?', default=str(ROOT / CONFIG), help=f'{CONFIG} by default')
    parser.add_argument('--ratio', type=float, default=0.75, help='share of the patches, of strategies that have one')
    parser.add_argument('--batch-size', type=int, default=32)
    parser.add_argument('--rounds', type=int, default=20, help='turns that count; two come before')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--json', metavar='OUT', help='also write the line of JSON to this file')
    args = parser.parse_args()
    for name in ('batch_size', 'rounds', 'threads'):
        if getattr(args, name) < 1:
            raise UsageError(f'--{name.replace("_", "-")} is {getattr(args, name)}: give 1 or more')
    return args


def strategies(ratio: float) -> dict[str, Masker]:
    """The named maskers, in every image and with one share where they have these settings."""
    named: Mapping[str, Any] = read_config(ROOT / 'configs/_base_/ablation_choices.py')['choices']['model.masker']
    built = {}
    for name, config in named.items():
        settings = dict(config or {})
        wanted = dict(image_prob=1.0) if 'throw' in settings else dict(ratio=ratio, image_prob=1.0)
        settings |= {key: value for key, value in wanted.items() if key in settings}
        masker = build_masker(settings) if config else None
        if masker is not None:
            built[name] = masker
    return built


def context_of(step: OurStep) -> MaskContext:
    """The batch of a step, with scores and tokens of the sizes that its backbone gives."""
    (images, *_) = step.model.data_preprocessor(step.data)['inputs']
    backbone: Any = step.model.backbone
    grid = backbone.grid_of(images)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(len(images), grid[0] * grid[1], backbone.feature_dims, generator=generator)
    scores = torch.randn(len(images), 3, grid[0] * grid[1], generator=generator).softmax(dim=-1)
    return MaskContext(images, grid, tokens.to(images.device), scores.to(images.device))


@exit_cleanly
def main() -> None:
    """Builds all, lets them take turns, prints."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    MMLogger.get_instance('mmengine').setLevel('WARNING')  # else a line for every parameter
    random = dict(type='RandomMasker', ratio=args.ratio, _delete_=True)
    step = OurStep(args.config, {'model.masker': random}, args.batch_size, args.device, 'float32', None)
    maskers, context = strategies(args.ratio), context_of(step)
    # On the CPU its own seconds: a step of many is interrupted by other programs, a draw of a few milliseconds is not.
    clock = time.process_time if step.device.type == 'cpu' else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in (STEP, *maskers)}
    for turn in track(range(-2, args.rounds), args.rounds + 2, 'rounds'):
        for name in in_turn(seconds, turn):
            if name != STEP:
                maskers[name].set_progress(Progress(turn + 2, args.rounds + 2, 1, iteration=turn + 2))
            start = clock()
            if name == STEP:
                step()
            else:
                maskers[name].draw(context)
            if step.device.type == 'cuda':
                torch.cuda.synchronize(step.device)
            if turn >= 0:
                seconds[name].append(clock() - start)
    height, width = context.grid
    print(
        f'{args.config}: batch {args.batch_size}, {height}x{width} patches, {args.threads} threads, {args.rounds} '
        f'rounds, {args.device}; a step takes {1e3 * statistics.median(seconds[STEP]):.0f} ms'
    )
    results: dict[str, dict[str, float]] = {}
    for name, masker in maskers.items():
        share, taken = median_ratio(seconds[name], seconds[STEP]), statistics.median(seconds[name])
        results[name] = dict(seconds=round(taken, 6), of_step=round(share, 5))
        asks = ', '.join(what for what in ('scores', 'tokens') if getattr(masker, f'needs_{what}'))
        print(f'{name:20} {1e3 * taken:8.2f} ms, {100 * share:6.2f} % of a step{f" (and {asks})" if asks else ""}')
    print_line({**vars(args), 'machine': machine(), 'torch': torch.__version__, 'results': results}, args.json)


if __name__ == '__main__':
    main()
