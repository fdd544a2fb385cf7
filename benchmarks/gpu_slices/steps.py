"""Training steps: images per second, MFU, memory and host waits, of every method and of lightly's."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from contest.our_step import configured, view_sizes
from contest.turns import in_turn, median_ratio
from contest.worker import Worker

from gpu_slices.peaks import operations_per_second, peak_of
from gpu_slices.results import ROOT, Results
from gpu_slices.settings import Settings

# Ours and its peer on the same views; the batch of each, halved until it fits.
PAIRS = {
    'configs/dino/dino_vit-s_100e.py': 'lightly-dino',
    'configs/ibot/ibot_vit-s_800e_block.py': 'lightly-ibot',
    'configs/mae/mae_vit-s_800e.py': 'lightly-mae',
}
MAIN = (*PAIRS, 'configs/mst/mst_deit-s_100e.py', 'configs/attmask/attmask-high_vit-s_100e.py')
DTYPES = ('bfloat16', 'float16', 'float32')
BATCH, PROTOTYPES = 128, 65536
REHEARSED = ('configs/dino/dino_vit-tiny_folder.py',)


def contestant(settings: Settings, name: str, dtype: str, batch: int, **more: Any) -> dict[str, Any]:
    """The settings of a worker."""
    common = dict(name=name, dtype=dtype, batch=batch, device=settings.device, threads=1 if settings.rehearse else 8)
    return {**common, 'out_dim': 64 if settings.rehearse else PROTOTYPES, **more}


def started(one: dict[str, Any]) -> tuple[Worker, int]:
    """A worker that has done two steps, and its batch: the largest of its own, a half of it, a quarter … that fits."""
    batch = one['batch']
    while True:
        worker = Worker({**one, 'batch': batch})
        try:
            for _ in range(2):
                worker.ask('step')
            return worker, batch
        except RuntimeError as error:
            worker.close()
            if 'out of memory' not in str(error).lower() or batch <= 4:
                raise
            batch //= 2
        except BaseException:
            worker.close()
            raise


def seconds_of(worker: Worker, budget: float, fewest: int = 3, most: int = 40) -> list[float]:
    """Seconds of steps, for a time."""
    found: list[float] = []
    start = time.monotonic()
    while len(found) < fewest or (len(found) < most and time.monotonic() - start < budget):
        found.append(worker.ask('step'))
    return found


def described(worker: Worker, seconds: list[float], batch: int, dtype: str) -> dict[str, Any]:
    """A row of a worker and its seconds."""
    median = statistics.median(seconds)
    operations = worker.ask('flops')
    peak = peak_of(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
    mfu = None
    if peak is not None:
        mfu = operations / median / operations_per_second(peak, dtype, torch.backends.cuda.matmul.allow_tf32)
    return dict(
        images_per_second=round(batch / median, 2),
        seconds=round(median, 5),
        mfu=None if mfu is None else round(mfu, 4),
        peak_bytes=worker.ask('peak'),
        batch=batch,
        fastest=round(min(seconds), 5),
        slowest=round(max(seconds), 5),
        steps=len(seconds),
        model_flops=operations,
        peak=None if peak is None else peak._asdict(),
        waits=worker.ask('waits'),
        busy=worker.ask('busy'),
    )


def row(one: dict[str, Any], budget: float) -> dict[str, Any]:
    """Measures one contestant alone."""
    worker, batch = started(one)
    try:
        return described(worker, seconds_of(worker, budget), batch, one['dtype'])
    finally:
        worker.close()


def versus(ours: dict[str, Any], theirs: dict[str, Any], budget: float) -> dict[str, Any]:
    """Measures two by turns, with the smaller of the batches that fit."""
    workers: dict[str, Worker] = {}
    try:
        workers['ours'], batch = started(ours)
        workers['theirs'], smaller = started({**theirs, 'batch': batch})
        if smaller < batch:
            workers.pop('ours').close()
            workers['ours'], batch = started({**ours, 'batch': smaller})
        seconds: dict[str, list[float]] = {name: [] for name in workers}
        start = time.monotonic()
        for turn in range(40):
            if turn >= 3 and time.monotonic() - start > budget:
                break
            for name in in_turn(workers, turn):
                seconds[name].append(workers[name].ask('step'))
        rows = {name: described(workers[name], seconds[name], batch, ours['dtype']) for name in workers}
        return dict(ours_faster=round(median_ratio(seconds['theirs'], seconds['ours']), 4), **rows)
    finally:
        for worker in workers.values():
            worker.close()


def options(compiled: bool) -> dict[str, Any]:
    """Overrides of a config."""
    return {'compile': True} if compiled else {}


def main_steps(settings: Settings, results: Results) -> None:
    """The main methods in bfloat16, eager and compiled."""
    for config in REHEARSED if settings.rehearse else MAIN:
        for compiled in (False,) if settings.rehearse else (False, True):
            name = f'{Path(config).stem}, bfloat16, {"compiled" if compiled else "eager"}'
            one = contestant(settings, str(ROOT / config), 'bfloat16', batch_of(settings), options=options(compiled))
            results.row(name, lambda one=one: row(one, 0 if settings.rehearse else 8), 90 if compiled else 40)


def precisions(settings: Settings, results: Results) -> None:
    """The main methods in float16 and float32, eager and compiled."""
    for dtype in DTYPES[1:]:
        for config in REHEARSED if settings.rehearse else MAIN:
            for compiled in (False,) if settings.rehearse else (False, True):
                if settings.rehearse and dtype == 'float16':
                    results.skip(f'{Path(config).stem}, {dtype}', 'float16 needs a GPU')
                    continue
                name = f'{Path(config).stem}, {dtype}, {"compiled" if compiled else "eager"}'
                one = contestant(settings, str(ROOT / config), dtype, batch_of(settings), options=options(compiled))
                results.row(name, lambda one=one: row(one, 0 if settings.rehearse else 6), 90 if compiled else 40)


def peers(settings: Settings, results: Results) -> None:
    """Ours beside lightly's, by turns; bfloat16 first."""
    for dtype in DTYPES[: 1 if settings.rehearse else None]:
        for config, peer in PAIRS.items():
            if settings.rehearse:
                results.skip(f'{peer}, {dtype}', 'a ViT-S/16 at 224 px is too much for a rehearsal')
                continue
            sizes, _ = view_sizes(configured(str(ROOT / config), {}))
            ours = contestant(settings, str(ROOT / config), dtype, batch_of(settings), options={})
            theirs = contestant(settings, peer, dtype, batch_of(settings), sizes=sizes)
            results.row(f'{Path(config).stem} and {peer}, {dtype}', lambda o=ours, t=theirs: versus(o, t, 10), needs=60)


def method_configs() -> Iterator[Path]:
    """A config of every method at its published size, and of what has none at the size for a folder."""
    for folder in sorted((ROOT / 'configs').iterdir()):
        if folder.name in ('_base_', 'downstream', 'demo', 'mmpretrain') or not folder.is_dir():
            continue
        found = sorted(folder.glob('*.py'))
        published = [path for path in found if not path.stem.endswith('_folder')]
        small = [path for path in published if '_vit-s' in path.stem or '_deit-s' in path.stem]
        yield (small or published or found)[0]


def methods(settings: Settings, results: Results) -> None:
    """A step of every method in bfloat16, eager, at its published size."""
    for path in [ROOT / config for config in REHEARSED] if settings.rehearse else method_configs():
        tokenizer = 'tokenizer' in (configured(str(path), {}).model or {})
        if tokenizer:
            results.skip(path.stem, 'needs a tokenizer file, which is trained first')
            continue
        one = contestant(settings, str(path), 'bfloat16', batch_of(settings), options={})
        results.row(path.stem, lambda one=one: row(one, 0 if settings.rehearse else 4), needs=25)


def batch_of(settings: Settings) -> int:
    """Images of a step."""
    return 2 if settings.rehearse else BATCH
