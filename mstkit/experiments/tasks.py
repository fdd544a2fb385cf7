"""The downstream tasks and their metrics."""

from __future__ import annotations

from typing import NamedTuple

from mstkit.errors import UsageError, nearest


class Metric(NamedTuple):
    """A metric of a task.

    Attributes:
        name: in tables.
        key: in mmengine's logs.
        factor: converts the logged value to percent.
        empty: its value in percent for a validation that logged no metric; None if that does not happen.
    """

    name: str
    key: str
    factor: float = 1.0
    empty: float | None = None


class Task(NamedTuple):
    """A downstream task: its demo config in configs/downstream, and its metrics, the main one first."""

    config: str
    metrics: tuple[Metric, ...]


TASKS = {
    'detection': Task(
        'demo/mask-rcnn_vit-nano_scenes.py',
        # mmdet logs no metric if no object was detected in any image.
        (Metric('box AP', 'coco/bbox_mAP', 100.0, 0.0), Metric('mask AP', 'coco/segm_mAP', 100.0, 0.0)),
    ),
    'segmentation': Task(
        'demo/setr_vit-nano_scenes.py', (Metric('mIoU', 'mIoU'), Metric('mAcc', 'mAcc'), Metric('aAcc', 'aAcc'))
    ),
    'classification': Task('demo/classifier_vit-nano_scenes.py', (Metric('top-1', 'accuracy/top1'),)),
}


def check_task(name: str) -> str:
    """Returns the name of a task.

    Raises:
        UsageError: there is no such task.
    """
    if name not in TASKS:
        raise UsageError(f'there is no task {name!r}, only {", ".join(TASKS)}.{nearest(name, TASKS)}')
    return name
