"""Work dirs without training: what a pre-training, an ablation and a downstream run leave behind, in small."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mstkit.structures import PanelData
from mstkit.visualization import draw_panels

CONFIG = """
model = dict(
    type='MSTAlgorithm',
    backbone=dict(type='MaskedVisionTransformer', img_size=48, patch_size=8),
    masker=dict(type='AttentionGuidedMasker', num=4, prob=0.1),
    neck=dict(type='DINONeck', out_dim=64),
    head=dict(type='DINOHead', teacher_temp=0.04, warmup_teacher_temp=0.02, warmup_teacher_temp_epochs=3),
    teacher=dict(type='MomentumTeacher', momentum=0.9))
optim_wrapper = dict(optimizer=dict(lr=0.001, type='AdamW'), type='DistillationOptimWrapper')
train_cfg = dict(max_epochs=4, type='ResumableEpochLoop')
train_dataloader = dict(batch_size=8, dataset=dict(data_root='images', type='ImageFolder'))
randomness = dict(seed=None)
epochs = 100
launcher = 'none'
work_dir = 'x'
"""
EVENTS: list[dict[str, Any]] = [
    dict(
        event='start',
        environment={'Python': '3.11.7', 'PyTorch': '2.9.0', 'seed': '1234', 'mp_cfg': '{}', 'GPU number': '1'},
        processes=1,
        seed=1234,
        changes=[],
    ),
    dict(event='note', text='ImageFolder: 80 images in 5 classes in images/train'),
    dict(event='note', text='k-NN epoch 0: random init 3.0'),
    dict(event='warning', level='WARNING', text='two things <script>alert(1)</script>'),
    dict(event='training', iteration=1, epoch_length=10),
    dict(event='warning', level='WARNING', text='two things <script>alert(1)</script>'),
]
STAMP = '20260102_030405'


def write_lines(path: Path, records: list[dict[str, Any]], more: str = '') -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(json.dumps(record) + '\n' for record in records) + more)


def training(iterations: range, loss: float = 4.0) -> list[dict[str, Any]]:
    """Lines of training iterations, ten an epoch."""
    return [
        dict(lr=0.001, loss=loss + 1 / i, loss_ce=loss, time=0.5, data_time=0.01, epoch=1, iter=i, step=i)
        for i in iterations
    ]


def make_run(folder: Path, epochs: int = 4, loss: float = 4.0, config: str = CONFIG, image_seed: int = 0) -> Path:
    """A pre-training of four epochs of ten iterations that has come to ``epochs``."""
    stamp = folder / STAMP
    (stamp / 'vis_data').mkdir(parents=True)
    write_lines(folder / 'events.jsonl', EVENTS)
    (stamp / 'vis_data' / 'config.py').write_text(config)
    (folder / 'base.py').write_text(config)
    write_lines(stamp / 'vis_data' / 'scalars.json', training(range(1, 10 * epochs + 1), loss))
    knn = [
        dict(
            epoch=e,
            iter=10 * e,
            k=20,
            branches=dict(
                student=dict(k10_top1=20.0 + e, k20_top1=30.0 + 5 * e), teacher=dict(k10_top1=20.0, k20_top1=30.0 + e)
            ),
        )
        for e in range(epochs + 1)
    ]
    write_lines(folder / 'knn.jsonl', knn)
    statistics = dict(cross_entropy=3.0, teacher_entropy=1.5, kl=1.5, feature_deviation=0.5, effective_rank=9.0)
    collapse = [
        dict(epoch=e, **statistics, hidden_fraction=0.01 * e, num_images=64, findings=[]) for e in range(1, epochs + 1)
    ]
    write_lines(folder / 'collapse.jsonl', collapse)
    random = np.random.default_rng(image_seed)
    pixels = torch.from_numpy(random.integers(0, 256, (3, 3, 40, 40)).astype(np.float32))
    for epoch in {0, epochs}:
        restored = torch.from_numpy(random.integers(0, 256, (3, 3, 40, 40)).astype(np.float32))
        mask = torch.zeros(3, 5, 5, dtype=torch.bool)
        mask[0, 0, 0] = mask[1, 2, 3] = mask[2, 4, 4] = True
        data = PanelData(pixels, torch.rand(3, 5, 5), mask, restored)
        draw_panels(data, [0] * 3, [1] * 3, folder / 'panels' / f'epoch_{epoch:03d}.png')
    (folder / f'epoch_{epochs}.pth').touch()
    return folder


def make_ablation(folder: Path) -> Path:
    """Two choices with two seeds each, of which one has failed."""
    rows = ['choice,model.masker,seed,status,k']
    for choice in ('mst', 'none'):
        config = CONFIG if choice == 'mst' else CONFIG.replace(CONFIG.split('\n')[4], '    masker=None,')
        for seed in (0, 1):
            failed = choice == 'none' and seed == 1
            cell = make_run(folder / choice / f'seed{seed}', 2 if failed else 4, 3.0 + seed, config)
            status = dict(status='failed', error='out of <b>memory</b>') if failed else dict(status='finished')
            record = dict(
                choice={'model.masker': choice}, seed=seed, command=f'python tools/train.py {choice}', **status
            )
            (cell / 'cell.json').write_text(json.dumps(record))
            rows.append(f'{choice},{choice},{seed},{status["status"]},10')
    (folder / 'ablation.csv').write_text('\n'.join(rows) + '\n')
    table = '| choice | student, last |\n| --- | --- |\n| mst | 24.0 ± 0.0 |\n| a \\| <i>b</i> | 1 |'
    (folder / 'ablation.md').write_text(
        f'# Ablation of base.py\n\n{table}\n\nWords with `code`.\n\n![x](ablation.png)\n'
    )
    return folder


def make_downstream(folder: Path, best: float = 0.4) -> Path:
    """A detection of two epochs, without any record of a pre-training."""
    config = "model = dict(type='MaskRCNN')\ntrain_cfg = dict(by_epoch=True, max_epochs=2)\n"
    stamp = folder / STAMP
    (stamp / 'vis_data').mkdir(parents=True)
    write_lines(folder / 'events.jsonl', EVENTS)
    (stamp / 'vis_data' / 'config.py').write_text(config)
    validations: list[dict[str, Any]] = [
        {'data_time': 0.1, 'time': 0.2, 'step': 1},  # nothing was detected
        {'coco/bbox_mAP': best, 'coco/segm_mAP': 0.1, 'coco/bbox_mAP_l': -1.0, 'time': 0.2, 'step': 2},
    ]
    lines = training(range(1, 11)) + validations[:1] + training(range(11, 21)) + validations[1:]
    write_lines(stamp / 'vis_data' / 'scalars.json', lines)
    (folder / 'epoch_2.pth').touch()
    return folder


def age(folder: Path, seconds: float, now: float) -> None:
    """Makes a work dir look as if nothing was written for a while."""
    for path in folder.rglob('*'):
        os.utime(path, (now - seconds, now - seconds))
