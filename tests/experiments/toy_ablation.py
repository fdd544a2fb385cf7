"""An ablation without training: a small config, and a program in the place of tools/train.py."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mstkit.experiments.ablation import Plan, make_plan

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / 'configs' / '_base_' / 'ablation_choices.py'

CONFIG = """
epochs = 2
scenes = dict(type='BuiltinScenes', split='train', num_images=4, image_size=48, pipeline=[])
model = dict(
    type='MSTAlgorithm',
    backbone=dict(type='MaskedVisionTransformer', img_size=48),
    masker=dict(type='AttentionGuidedMasker', num=4, prob=0.2, exclude_cls_key=True),
    decoder=None,
)
train_dataloader = dict(batch_size=4, dataset=scenes)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.95)))
param_scheduler = [
    dict(type='LinearLR', begin=0, end=1, by_epoch=True),
    dict(type='CosineAnnealingLR', begin=1, end=epochs, by_epoch=True),
]
train_cfg = dict(max_epochs=epochs)
default_hooks = dict(knn=dict(type='KNNHook', train_dataset=scenes, val_dataset=scenes, ks=[1, 20]))
custom_hooks = [dict(type='ProgressHook'), dict(type='PanelHook', interval=3)]
"""

# Behaves by the learning rate: 2 is refused, 3 dies of an exception, 4 waits to be stopped unless it is resumed.
PROGRAM = """
import json, sys, time
from pathlib import Path
config = {}
exec(Path(sys.argv[1]).read_text(), config)
folder = Path(sys.argv[sys.argv.index('--work-dir') + 1])
seed = int(sys.argv[sys.argv.index('--seed') + 1])
folder.mkdir(parents=True, exist_ok=True)
with open(folder / 'calls.txt', 'a') as calls:
    calls.write(' '.join(sys.argv[4:]) + '\\n')
lr = config['optim_wrapper']['optimizer']['lr']
if lr == 2:
    print('error: lr 2 is too high', file=sys.stderr)
    sys.exit(2)
if lr == 3:
    print('epoch 1')
    raise RuntimeError('out of | patience')
records = []
for epoch in range(3):
    top1 = {'k1_top1': 0.0, 'k20_top1': 10.0 + 20 * epoch * lr + seed}
    records.append({'epoch': epoch, 'k': 20, 'branches': {'student': top1, 'teacher': top1}})
(folder / 'knn.jsonl').write_text(''.join(json.dumps(record) + '\\n' for record in records))
(folder / 'epoch_1.pth').touch()
if lr == 4 and '--resume' not in sys.argv:
    time.sleep(200)
"""


def make(tmp_path: Path, *vary: str, seeds: tuple[int, ...] = (0,), **more: Any) -> Plan:
    """The plan of a command line; ``text`` is another config."""
    base = tmp_path / 'base.py'
    base.write_text(more.pop('text', CONFIG))
    settings = dict(table=TABLE, k=20, work_dir=tmp_path / 'work')
    return make_plan(base, vary, seeds, **{**settings, **more})


def program(tmp_path: Path) -> Path:
    path = tmp_path / 'train.py'
    path.write_text(PROGRAM)
    return path


def record_run(
    folder: Path, curves: dict[str, dict[int, float]], hidden: Sequence[float] = (), seconds: float = 10.0
) -> None:
    """What a finished cell leaves behind, apart from its ``cell.json``; k = 20, and another k that must not be read."""
    folder.mkdir(parents=True, exist_ok=True)
    epochs = sorted(next(iter(curves.values())))
    records: list[dict] = [
        dict(
            epoch=epoch,
            k=10,
            branches={name: {'k10_top1': 99.0, 'k20_top1': curve[epoch]} for name, curve in curves.items()},
        )
        for epoch in epochs
    ]
    (folder / 'knn.jsonl').write_text(''.join(json.dumps(record) + '\n' for record in records))
    lines = [dict(epoch=epoch, hidden_fraction=share) for epoch, share in enumerate(hidden, start=1)]
    (folder / 'collapse.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
