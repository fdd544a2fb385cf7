"""A transfer without training: runs, the logs that mmengine would leave, and a program in the place of train.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mstkit.experiments.transfer import PRETRAINED, FineTuning, Plan, TaskOptions, fine_tuning
from mstkit.experiments.transfer_source import Source

ROOT = Path(__file__).resolve().parents[2]
DOWNSTREAM = ROOT / 'configs' / 'downstream'
DEMO = DOWNSTREAM / 'demo'
CONFIGS = {
    'detection': DEMO / 'mask-rcnn_vit-nano_scenes.py',
    'segmentation': DEMO / 'setr_vit-nano_scenes.py',
    'classification': DEMO / 'classifier_vit-nano_scenes.py',
}
TRAINING = dict(lr=1e-4, loss=2.5, time=0.1, data_time=0.01, epoch=1)
DETECTED = {'coco/bbox_mAP': 0.125, 'coco/bbox_mAP_50': 0.25, 'coco/segm_mAP': 0.1}
NOTHING_DETECTED: dict[str, float] = {}

# Behaves by the seed: 2 is refused, 3 dies of an exception, 4 waits to be stopped unless it is resumed, 5 measures
# nothing, 6 waits for somebody who has noticed where it is, 7 is stopped in the validation after its last checkpoint
# unless it goes on from one before.
PROGRAM = """
import json, sys, time
from pathlib import Path
option = dict(zip(sys.argv, sys.argv[1:]))
folder, seed = Path(option['--work-dir']), int(option['--seed'])
def wait_for(name):
    deadline = time.monotonic() + 60
    while not (folder / name).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
with open(folder / 'calls.txt', 'a') as calls:
    calls.write(json.dumps(sys.argv[2:]) + '\\n')
if seed == 2:
    print('error: the data set has no images', file=sys.stderr)
    sys.exit(2)
if seed == 3:
    print('Epoch(train) [1][ 25/50]  lr: 1e-4  eta: 0:00:10  time: 0.1  loss: 2.5')
    raise RuntimeError('out of | patience')
logs = folder / str(time.time_ns()) / 'vis_data'
logs.mkdir(parents=True)
for epoch in (1, 2):
    print(f'a date - mmengine - INFO - Epoch(train) [{epoch}][ 25/50]  lr: 1e-4  eta: 0:01:30  time: 0.1  loss: 2.5',
          flush=True)
    if seed == 6:
        wait_for('iteration')
        print(f'a date - mmengine - INFO - Epoch(val) [{epoch}][ 5/13]    eta: 0:00:02  time: 0.3', flush=True)
        wait_for('measuring')
    (folder / f'epoch_{epoch}.pth').touch()
    if seed == 5:
        continue
    if seed == 7 and epoch == 2 and len((folder / 'calls.txt').read_text().splitlines()) == 1:
        time.sleep(200)
    with open(logs / 'scalars.json', 'a') as file:
        file.write(json.dumps({'lr': 1e-4, 'loss': 2.5, 'time': 0.1, 'iter': 50 * epoch, 'step': 50 * epoch}) + '\\n')
        file.write(json.dumps({'accuracy/top1': 20.0 * epoch + seed, 'time': 0.1, 'step': epoch}) + '\\n')
    if seed == 4 and '--resume' not in sys.argv:
        time.sleep(200)
"""


def make_run(
    folder: Path, task: str = 'detection', start: str = PRETRAINED, seed: int = 0, **changes: Any
) -> FineTuning:
    """A run of two epochs below a folder."""
    known: dict[str, Any] = dict(length=2, fingerprint='0123', config=CONFIGS.get(task), settings={}, unit='epoch')
    return fine_tuning(folder, task, start, seed, **{**known, **changes})


def make_plan(folder: Path, runs: list[FineTuning]) -> Plan:
    tasks = {run.task: TaskOptions(run.config) for run in runs}
    return Plan(tuple(runs), tasks, Source('epoch_9.pth', 'teacher', 9, 'abcd', {}), folder)


def program(folder: Path) -> Path:
    path = folder / 'train.py'
    path.write_text(PROGRAM)
    return path


def log(
    run: FineTuning, *validations: tuple[int, dict[str, float]], stamp: str = '20260101_000000', more: str = ''
) -> None:
    """Writes what a process that trained and validated leaves; ``more`` follows as it is."""
    file = run.folder / stamp / 'vis_data' / 'scalars.json'
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for step, metrics in validations:
        lines.append({**TRAINING, 'iter': 50 * step, 'step': 50 * step})
        lines.append({**metrics, 'data_time': 0.01, 'time': 0.2, 'step': step})
    file.write_text(''.join(json.dumps(line) + '\n' for line in lines) + more)
