"""The downstream tasks and their metrics."""

from __future__ import annotations

from typing import NamedTuple

from mstkit.errors import UsageError, nearest


class Metric(NamedTuple):
    """A metric of a task.

    Attributes:
        name: in tables.
        key: in mmengine's logs.
        factor: converts the logged value to ``unit``.
        empty: its value for a validation that logged no metric; None if that does not happen.
        unit: of the value.
    """

    name: str
    key: str
    factor: float = 1.0
    empty: float | None = None
    unit: str = '%'

    @property
    def title(self) -> str:
        """The name, with the unit where it is not percent."""
        return self.name if self.unit == '%' else f'{self.name}, {self.unit}'


class Task(NamedTuple):
    """A downstream task.

    Attributes:
        config: its demo config in configs/downstream; None for a task that is measured without training.
        metrics: the main one first.
        scenes: which of the built-in images its demo config reads from files (a name of ``SCENES``); None for none.
        program: the tool that measures it without training; None for a task that is trained.
    """

    config: str | None
    metrics: tuple[Metric, ...]
    scenes: str | None = None
    program: str | None = None


TASKS = {
    'detection': Task(
        'demo/mask-rcnn_vit-nano_scenes.py',
        # mmdet logs no metric if no object was detected in any image.
        (Metric('box AP', 'coco/bbox_mAP', 100.0, 0.0), Metric('mask AP', 'coco/segm_mAP', 100.0, 0.0)),
        'objects',
    ),
    'segmentation': Task(
        'demo/setr_vit-nano_scenes.py',
        (Metric('mIoU', 'mIoU'), Metric('mAcc', 'mAcc'), Metric('aAcc', 'aAcc')),
        'objects',
    ),
    'classification': Task('demo/classifier_vit-nano_scenes.py', (Metric('top-1', 'accuracy/top1'),)),
    'depth': Task(
        'demo/depth_vit-nano_scenes.py',
        (
            Metric('d1', 'd1', 100.0),
            Metric('abs rel', 'abs_rel', 100.0),
            Metric('RMSE', 'rmse', 100.0, unit='cm'),
        ),
        'depth',
    ),
    'keypoints': Task(
        'demo/keypoints_vit-nano_scenes.py',
        (Metric('PCK@0.1', 'keypoints/PCK@0.1'), Metric('AP', 'keypoints/AP')),
        'figures',
    ),
    'tracking': Task(
        None,
        (
            Metric('success', 'success'),
            Metric('precision', 'precision'),
            Metric('AO', 'ao'),
        ),
        'videos',
        'tools/evaluation/tracking.py',
    ),
}


def check_task(name: str) -> str:
    """Returns the name of a task.

    Raises:
        UsageError: there is no such task.
    """
    if name not in TASKS:
        raise UsageError(f'there is no task {name!r}, only {", ".join(TASKS)}.{nearest(name, TASKS)}')
    return name
