"""What guidance costs: python benchmarks/guides.py CONFIG [--batch-size 64] [--rounds 20]

A training step of a config with AttMask-High and each guide, in turn with a random mask of as many patches, which asks
nobody. See benchmarks/README.md.
"""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

import argparse
import statistics
import time
from types import SimpleNamespace
from typing import Any

import torch
from contest.json_line import machine, print_line
from contest.our_step import OurStep, seconds_of_steps
from contest.turns import median_ratio
from mmengine.logging import MMLogger

from mstkit.errors import UsageError, exit_cleanly
from mstkit.models import CachedGuide

NONE = 'no guide'
GUIDES: dict[str, Any] = {
    'teacher': 'teacher',
    'student': 'student',
    'ema': 'ema',
    'cached': dict(type='CachedGuide', guide='student'),
    'frozen': dict(type='FrozenGuide', source='timm:vit_tiny_patch16_224'),
}


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description='The step of a config per guide, in pairs against no guide.')
    parser.add_argument('config')
    parser.add_argument('--guides', default=','.join(GUIDES), help='of ' + ', '.join(GUIDES))
    parser.add_argument('--ratio', type=float, default=0.75, help='share of the patches that is hidden')
    parser.add_argument('--batch-size', type=int, default=64)
    parser.add_argument('--rounds', type=int, default=20, help='steps of each that count; two come before')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--json', metavar='OUT', help='also write the line of JSON to this file')
    return parser.parse_args()


def build(args: argparse.Namespace, guide: str) -> OurStep:
    """A step with a guide; cached scores are there."""
    masker = dict(type='AttMaskHigh', ratio=args.ratio, image_prob=1.0)
    if guide == NONE:
        masker = dict(type='RandomMasker', ratio=args.ratio)
    options = {'model.masker': dict(masker, _delete_=True), 'model.guide': GUIDES.get(guide, 'teacher')}
    step = OurStep(args.config, options, args.batch_size, args.device, 'float32', None)
    if isinstance(step.model.guide, CachedGuide):
        views = step.model.data_preprocessor(step.data)['inputs']
        maps = step.model.guide.importance(step.model, views[0])
        step.model.guide.keep(maps, torch.ones(len(maps), dtype=torch.bool), 0)
        boxes = [[0.1, 0.2, 0.6, 0.7, 1.0]] * len(views)
        step.data['data_samples'] = [SimpleNamespace(sample_idx=i, view_boxes=boxes) for i in range(len(maps))]
    return step


def refresh_seconds(step: OurStep) -> float:
    """Seconds per image of the pass that a refresh makes, without reading files."""
    views = step.model.data_preprocessor(step.data)['inputs']
    start = time.perf_counter()
    step.model.guide.importance(step.model, views[0])
    return (time.perf_counter() - start) / len(views[0])


@exit_cleanly
def main() -> None:
    """Builds all, lets them take turns, prints."""
    args = parse_args()
    names = [NONE, *args.guides.split(',')]
    unknown = [name for name in names[1:] if name not in GUIDES]
    if unknown:
        raise UsageError(f'--guides {unknown[0]}: give {", ".join(GUIDES)}.')
    torch.set_num_threads(args.threads)
    MMLogger.get_instance('mmengine').setLevel('WARNING')  # else a line for every parameter
    steps = {name: build(args, name) for name in names}
    seconds = seconds_of_steps(steps, args.rounds)
    print(f'{args.config}: batch {args.batch_size}, {args.threads} threads, {args.rounds} rounds, {args.device}')
    results: dict[str, dict[str, float]] = {}
    for name in names:
        ratio = median_ratio(seconds[name], seconds[NONE])
        found = dict(seconds=statistics.median(seconds[name]), over_none=ratio, share_of_step=1 - 1 / ratio)
        results[name] = {key: round(value, 4) for key, value in found.items()}
        print(
            f'{name:9} {1e3 * found["seconds"]:7.1f} ms a step, {ratio:.2f} x no guide, '
            f'{100 * found["share_of_step"]:.0f} % of the step is guidance'
        )
    if 'cached' in steps:
        each = statistics.median(refresh_seconds(steps['cached']) for _ in range(5))
        results['cached']['refresh_seconds_per_image'] = round(each, 6)
        step = results[NONE]['seconds'] / args.batch_size
        print(f'cached: a refresh takes {1e3 * each:.2f} ms an image, {each / step:.2f} of an epoch without guide')
    print_line({**vars(args), 'machine': machine(), 'torch': torch.__version__, 'results': results}, args.json)


if __name__ == '__main__':
    main()
