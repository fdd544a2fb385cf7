"""COCO's metrics, which are 0 if nothing was detected."""

from __future__ import annotations

import codecs
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmdet.evaluation import CocoMetric

from mstkit.registry import METRICS

_ITEMS = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')


def _has_byte_order_mark(path: str) -> bool:
    """Whether a file begins with a UTF-8 byte order mark, on which pycocotools fails."""
    with open(path, 'rb') as file:
        return file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8


@METRICS.register_module()
class CocoFolderMetric(CocoMetric):
    """mmdet's ``CocoMetric``, for :class:`mstkit.downstream.coco_folder.CocoFolder`.

    If nothing was detected in any image, mmdet returns no metrics, and mmengine logs those of the previous evaluation.
    Here they are 0. Categories are in the order of their ids, as in the data set.

    Args:
        **kwargs: as in mmdet.
    """

    def __init__(self, **kwargs: Any) -> None:
        settings = {'sort_categories': True, **kwargs}
        path = settings.get('ann_file')
        if not path or not os.path.isfile(path) or not _has_byte_order_mark(path):
            super().__init__(**settings)
            return
        with tempfile.TemporaryDirectory() as folder:
            plain = Path(folder, os.path.basename(path))
            plain.write_bytes(Path(path).read_bytes()[len(codecs.BOM_UTF8) :])
            super().__init__(**{**settings, 'ann_file': str(plain)})

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The average precisions, 0 to 1, of all classes together."""
        found = super().compute_metrics(results)
        wanted: Sequence[str] = self.metric_items or _ITEMS
        nothing = {f'{kind}_{item}': 0.0 for kind in self.metrics if kind in ('bbox', 'segm') for item in wanted}
        return found if self.format_only else {**nothing, **found}
