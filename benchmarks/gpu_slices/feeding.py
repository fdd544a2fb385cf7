"""The loader and the device's augmentation, as they feed a step."""

from __future__ import annotations

import json
import os
from pathlib import Path

from gpu_slices.results import ROOT, Results, json_of
from gpu_slices.settings import Settings

CONFIG = 'configs/dino/dino_vit-s_100e.py'
STEP_MS = 200.0  # where no step was measured yet


def step_milliseconds(settings: Settings) -> tuple[float, str]:
    """How long a step of the config takes, from the JSON of the slice 'steps' where it is there; and whence."""
    path = settings.out / 'steps.json'
    if path.is_file():
        for row in json.loads(path.read_text())['rows']:
            if row['name'].startswith(Path(CONFIG).stem) and 'eager' in row['name'] and 'seconds' in row:
                return 1000 * row['seconds'] * 128 / row['batch'], str(path)
    return STEP_MS, 'assumed: there is no steps.json yet'


def feeding(settings: Settings, results: Results) -> None:
    """The loader with colors on the CPU and on the device, by workers; then the transforms alone."""
    folder, images = settings.scratch('feeding'), settings.images()
    cores = os.cpu_count() or 1
    milliseconds, whence = step_milliseconds(settings)
    results.content.update(step_ms=round(milliseconds, 2), step_ms_from=whence, cores=cores, images=str(images))
    batch, batches = (2, 2) if settings.rehearse else (128, 20)
    workers = [0] if settings.rehearse else sorted({max(1, cores // 4), max(1, cores // 2), cores})
    config = 'configs/dino/dino_vit-tiny_folder.py' if settings.rehearse else CONFIG
    for photometric in ('device', 'cpu'):
        for count in workers:
            name = f'loader, {count} workers, colors on the {photometric}'
            out = folder / f'loader-{count}-{photometric}.json'
            words = ['benchmarks/loader.py', ROOT / config, '--data-root', images, '--workers', count]
            words += [
                '--batch-size',
                batch,
                '--batches',
                batches,
                '--step-ms',
                1 if settings.rehearse else milliseconds,
            ]
            words += ['--device', settings.device, '--json', out]
            words += ['--cfg-options', f'train_dataloader.dataset.pipeline.1.photometric={photometric}']
            results.row(name, lambda words=words, out=out: json_of(words, results, out)['results'], needs=45)
    words = ['benchmarks/multi_crop.py', '--images', images / 'train', '--device', settings.device]
    words += ['--rounds', 1 if settings.rehearse else 3, '--max-images', 2 if settings.rehearse else 64]
    out = folder / 'multi_crop.json'
    words += ['--json', out]
    results.row('views of an image, by stages', lambda: json_of(words, results, out), needs=45)
