"""Tracking: how well the box of a video's first frame is followed by the similarity of patch tokens."""

from __future__ import annotations

import functools
import os

from mmengine.logging import print_log

from mstkit.errors import UsageError
from mstkit.evaluation.benchmarks.box_tracking import DEFAULTS, Tracking, follow_box, region_size, still_box
from mstkit.evaluation.benchmarks.tracking_files import find_tracked
from mstkit.evaluation.benchmarks.tracking_scores import overall, score_boxes
from mstkit.evaluation.evaluated_network import EvaluatedNetwork
from mstkit.evaluation.own_folder import open_own_folder
from mstkit.registry import EVALUATORS
from mstkit.utils.progress_bar import track


@EVALUATORS.register_module(name='tracking')
class TrackingEvaluator:
    """Follows boxes in videos of a folder of its own, see :mod:`mstkit.evaluation.benchmarks.box_tracking`.

    Args:
        data: the folder, in the layout of OTB or GOT-10k, see :mod:`mstkit.evaluation.benchmarks.tracking_files`.
        split: of GOT-10k; None for ``val``.
        region, size, frames, neighbors, temperature: see
            :class:`~mstkit.evaluation.benchmarks.box_tracking.Tracking`.

    Raises:
        UsageError: no folder was given, it has another layout or no boxes to compare with; a setting out of range.
    """

    def __init__(
        self,
        data: str | os.PathLike[str] | None = None,
        split: str | None = None,
        region: float = DEFAULTS.region,
        size: int | None = None,
        frames: int = DEFAULTS.frames,
        neighbors: int = DEFAULTS.neighbors,
        temperature: float = DEFAULTS.temperature,
    ) -> None:
        self.settings = Tracking(region, size, frames, neighbors, temperature)
        self.settings.check('tracking.')
        find = functools.partial(find_tracked, split=split)
        found = open_own_folder('tracking', data, 'videos with boxes', find)
        self.videos = [video for video in found if video.scored]
        self.unscored = len(found) - len(self.videos)
        if not self.videos:
            raise UsageError(f'tracking.data: {data} has boxes of first frames only: there is nothing to compare with.')

    def check(self, evaluated: EvaluatedNetwork) -> None:
        """Raises UsageError for a region smaller than a patch."""
        region_size(evaluated.network, self.settings, evaluated.device)

    def __call__(self, evaluated: EvaluatedNetwork) -> dict[str, float]:
        """Measures; the train and val folders of the suite are not used.

        Returns:
            ``tracking_ao``, ``tracking_success`` and the others of
            :data:`~mstkit.evaluation.benchmarks.tracking_scores.NAMES` in percent; and the same for a box that does not
            move, ``tracking_still_…``.
        """
        if self.unscored:
            print_log(
                f'tracking: {self.unscored} videos have a box of the first frame only and are left out',
                logger='current',
            )
        found, still = [], []
        for video in track(self.videos, len(self.videos), f'videos, {evaluated.network.name}'):
            followed = follow_box(evaluated.network, video, self.settings, evaluated.device)
            found.append(score_boxes(followed.boxes, video))
            still.append(score_boxes(still_box(video), video))
        return {f'tracking_{name}': value for name, value in overall(found).items()} | {
            f'tracking_still_{name}': value for name, value in overall(still).items()
        }

    def headlines(self) -> list[str]:
        """The mean overlap, and that of a box that does not move."""
        return ['tracking_ao', 'tracking_still_ao']
