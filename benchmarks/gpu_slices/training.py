"""Runs that learn: ours and lightly's for a time, masks compared, and several processes on one GPU."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpu_slices.results import ROOT, Results, json_of, run_program
from gpu_slices.settings import Settings

LEARNING = 'benchmarks/learning.py'
SECONDS = 130.0  # of training, for each of three methods in a slice
MASKED = 'configs/ibot/ibot_vit-tiny_folder.py'
MASKS = 'random,block,attmask-high,attmask-low,attmask-hint,mst'


def learning(*methods: str) -> Callable[[Settings, Results], None]:
    """A slice of benchmarks/learning.py with some methods, one after the other."""

    def measure(settings: Settings, results: Results) -> None:
        if settings.rehearse:
            for method in methods:
                results.skip(method, 'its own tests run it on a CPU')
            return
        folder, images = settings.scratch('learning'), settings.images(64)
        results.content.update(images=str(images), seconds_of_training=SECONDS)
        for method in methods:
            out = folder / f'{Path(method).stem.replace(":", "-")}.json'
            words = [LEARNING, 'run', method, '--data-root', images, '--seconds', SECONDS, '--seed', 0]
            words += ['--device', settings.device, '--out', out]
            results.row(method, lambda words=words, out=out: json_of(words, results, out), needs=SECONDS + 20)

    measure.__doc__ = f'Training for {SECONDS:.0f} s each: {", ".join(Path(method).stem for method in methods)}.'
    return measure


def masks(settings: Settings, results: Results) -> None:
    """Masks compared by mstkit ablate, which goes on where it was stopped: run this slice again until it is done."""
    folder = settings.scratch('masks')
    if settings.rehearse:
        results.skip('masks', 'tests/experiments run mstkit ablate on a CPU')
        return
    words = ['tools/ablate.py', MASKED, '--vary', f'model.masker={MASKS}', '--seeds', '0,1', '--epochs', 20]
    words += ['--work-dir', folder, '--data-root', settings.images(64)]
    results.content['goes_on'] = True

    def measure() -> dict[str, Any]:
        found = run_program(words, results.left - 30, folder / 'ablate.log')
        if found['code'] not in (0, 130, None):
            raise RuntimeError(f'ended with {found["code"]}: {" | ".join(found["tail"][-3:])}')
        results.content['goes_on'] = found['code'] != 0
        table = folder / 'ablation.csv'
        rows = list(csv.DictReader(table.open(encoding='utf-8'))) if table.is_file() else []
        return dict(finished=found['code'] == 0, table=rows, tail=found['tail'])

    results.row('masks', measure, needs=60)
    if results.content['goes_on']:
        results.content['unreached'].append('the cells without a number in the table')


def processes(settings: Settings, results: Results) -> None:
    """DDP and FSDP: one process with NCCL, two on the same GPU with gloo, and with NCCL, which may refuse it."""
    folder, images = settings.scratch('processes'), settings.images(64)
    config = ROOT / 'configs/dino/dino_vit-tiny_folder.py'
    cases = [
        ('nccl', 1, None),
        ('nccl', 1, 'FullyShard'),
        ('gloo', 2, None),
        ('gloo', 2, 'FullyShard'),
        ('nccl', 2, None),
    ]
    for backend, count, wrapper in cases:
        name = f'{count} processes, {backend}, {wrapper or "DDP"}'
        if settings.rehearse:
            results.skip(name, 'needs a GPU; tests/engine run two processes with gloo on a CPU')
            continue
        work = folder / f'{backend}-{count}-{wrapper or "ddp"}'
        words = ['tools/torchrun.py', count, 'train', config, '--launcher', 'pytorch', '--work-dir', work]
        words += ['--data-root', images, '--epochs', 2, '--cfg-options', f'env_cfg.dist_cfg.backend={backend}']
        words += [] if wrapper is None else [f'model_wrapper_cfg.type={wrapper}']

        def measure(words: list[object] = words, work: Path = work) -> dict[str, Any]:
            work.mkdir(parents=True, exist_ok=True)
            found = run_program(words, min(120.0, results.left - 5), work / 'train.log')
            logged: list[dict[str, Any]] = []
            for path in sorted(work.glob('*/vis_data/scalars.json')):
                logged += [json.loads(line) for line in path.read_text().splitlines()]
            lines = [line for line in logged if 'loss' in line]
            last = {key: lines[-1].get(key) for key in ('loss', 'time', 'memory', 'iter')} if lines else None
            return dict(code=found['code'], last=last, tail=found['tail'])

        results.row(name, measure, needs=60)
