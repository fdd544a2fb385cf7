"""COCO's metrics, of an evaluation that found nothing too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmdet.evaluation import CocoMetric

from mstkit.registry import METRICS

_ITEMS = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')


@METRICS.register_module()
class CocoFolderMetric(CocoMetric):
    """mmdet's ``CocoMetric``, for :class:`mstkit.downstream.coco_folder.CocoFolder`.

    Where nothing was detected in any picture, mmdet returns no numbers, and mmengine logs those of the evaluation
    before. Here they are 0. Categories are taken in the order of their ids, as the data set does.

    Args:
        **kwargs: as in mmdet.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{'sort_categories': True, **kwargs})

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The average precisions, 0 to 1, of all classes together."""
        found = super().compute_metrics(results)
        wanted: Sequence[str] = self.metric_items or _ITEMS
        nothing = {f'{kind}_{item}': 0.0 for kind in self.metrics if kind in ('bbox', 'segm') for item in wanted}
        return found if self.format_only else {**nothing, **found}
