"""Keypoints: how well a linear layer finds them in frozen patch tokens."""

from __future__ import annotations

import os
from collections.abc import Sequence

from mmengine.logging import print_log

from mstkit.evaluation.benchmarks.keypoints_of_networks import RATES, KeypointData, KeypointProtocol, measure_keypoints
from mstkit.evaluation.benchmarks.layer_tokens import check_layers
from mstkit.evaluation.evaluated_network import EvaluatedNetwork
from mstkit.evaluation.own_folder import open_own_folder
from mstkit.registry import EVALUATORS


@EVALUATORS.register_module(name='keypoints')
class KeypointEvaluator:
    """Linear probe of keypoints, see :mod:`mstkit.evaluation.protocols.keypoint_probe`, on a folder of its own.

    Args:
        data: the folder, in COCO's layout: train2017, val2017 and annotations/person_keypoints_{train,val}2017.json.
        layers, size, rates, epochs, batch_size, held_out, most: see
            :class:`~mstkit.evaluation.benchmarks.keypoints_of_networks.KeypointProtocol`.

    Raises:
        UsageError: no folder was given, or it has another layout or wrong annotations; a setting out of range.
    """

    def __init__(
        self,
        data: str | os.PathLike[str] | None = None,
        layers: int = 1,
        size: int | None = None,
        rates: Sequence[float] | float = RATES,
        epochs: int = 20,
        batch_size: int = 16,
        held_out: float = 0.2,
        most: int = 2000,
    ) -> None:
        rates = [rates] if isinstance(rates, int | float) else rates
        self.protocol = KeypointProtocol(layers, size, rates, epochs, batch_size, held_out, most)
        self.protocol.check('keypoints.')
        self.data = open_own_folder('keypoints', data, 'images with keypoints', KeypointData)

    def check(self, evaluated: EvaluatedNetwork) -> None:
        """Raises UsageError for more layers than the network has."""
        check_layers('keypoints.', self.protocol.layers, evaluated.network)

    def __call__(self, evaluated: EvaluatedNetwork) -> dict[str, float]:
        """Measures; the train and val folders of the suite are not used.

        Returns:
            ``keypoints_pck20`` and ``keypoints_pck10``, ``keypoints_ap``, ``keypoints_ap50`` and ``keypoints_ap75`` in
            percent; and the same for the mean place in the box, ``keypoints_place_…``.
        """
        found = measure_keypoints(
            evaluated.network, self.data, self.protocol, evaluated.device, evaluated.seed, evaluated.batch_size
        )
        if found.left_out:
            said = f'keypoints: {found.left_out} train instances beyond {self.protocol.most} are left out'
            print_log(said, logger='current')
        return {f'keypoints_{name}': value for name, value in found.scores.items()} | {
            f'keypoints_place_{name}': value for name, value in found.of_place.items()
        }

    def headlines(self) -> list[str]:
        """The share of keypoints near their place, and what is reached without looking at an image."""
        return ['keypoints_pck20', 'keypoints_place_pck20']
