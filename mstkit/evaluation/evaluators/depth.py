"""Depth: how well a linear layer reads it out of frozen patch tokens."""

from __future__ import annotations

import os
from collections.abc import Sequence

from mmengine.logging import print_log

from mstkit.evaluation.benchmarks.depth_of_networks import RATES, DepthData, DepthProtocol, measure_depth
from mstkit.evaluation.benchmarks.layer_tokens import check_layers
from mstkit.evaluation.evaluated_network import EvaluatedNetwork
from mstkit.evaluation.own_folder import open_own_folder
from mstkit.registry import EVALUATORS


@EVALUATORS.register_module(name='depth')
class DepthEvaluator:
    """Linear probe of depth, see :mod:`mstkit.evaluation.protocols.depth_probe`, on images of a folder of its own.

    Args:
        data: the folder: images/train, images/val, annotations/train and annotations/val.
        layers, size, units, farthest, rates, epochs, batch_size, held_out, most: see
            :class:`~mstkit.evaluation.benchmarks.depth_of_networks.DepthProtocol`.

    Raises:
        UsageError: no folder was given, or it has another layout; a setting out of range.
    """

    def __init__(
        self,
        data: str | os.PathLike[str] | None = None,
        layers: int = 1,
        size: int | None = None,
        units: float | None = None,
        farthest: float | None = None,
        rates: Sequence[float] | float = RATES,
        epochs: int = 10,
        batch_size: int = 16,
        held_out: float = 0.2,
        most: int = 2000,
    ) -> None:
        rates = [rates] if isinstance(rates, int | float) else rates
        self.protocol = DepthProtocol(layers, size, units, farthest, rates, epochs, batch_size, held_out, most)
        self.protocol.check('depth.')
        self.data = open_own_folder('depth', data, 'images with depth', DepthData)

    def check(self, evaluated: EvaluatedNetwork) -> None:
        """Raises UsageError for more layers than the network has."""
        check_layers('depth.', self.protocol.layers, evaluated.network)

    def __call__(self, evaluated: EvaluatedNetwork) -> dict[str, float]:
        """Measures; the train and val folders of the suite are not used.

        Returns:
            ``depth_d1`` to ``depth_d3`` in percent, ``depth_rmse`` in meters, ``depth_abs_rel``; and the same for the
            mean depth at each place, ``depth_place_…``.
        """
        found = measure_depth(
            evaluated.network, self.data, self.protocol, evaluated.device, evaluated.seed, evaluated.batch_size
        )
        if found.left_out:
            print_log(
                f'depth: {found.left_out} train images beyond {self.protocol.most} are left out', logger='current'
            )
        names = sorted(found.scores, key=lambda name: (name[0] != 'd', name))  # percent first
        return {f'depth_{name}': found.scores[name] for name in names} | {
            f'depth_place_{name}': found.of_place[name] for name in names
        }

    def headlines(self) -> list[str]:
        """The share of pixels with about the right depth, and what is reached without looking at an image."""
        return ['depth_d1', 'depth_place_d1']
