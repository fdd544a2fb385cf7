"""Drawing of label maps with the names and colors of the classes that a network was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmseg.visualization import SegLocalVisualizer

from mstkit.registry import VISUALIZERS


@VISUALIZERS.register_module()
class ClassNameVisualizer(SegLocalVisualizer):
    """mmseg's visualizer, but with the class names and colors given in the config.

    ``MMSegInferencer`` sets Cityscapes' names, whatever the network was trained on, unless every call gives others.
    :func:`mstkit.engine.config.downstream_options.name_classes` writes those of the training data into the config,
    which is saved in the work dir and in every checkpoint.

    Args:
        name: as in mmengine, which keeps every visualizer by its name.
        classes: names, in the order of the ids; by default those of Cityscapes.
        palette: a color (red, green, blue, 0 to 255) for each; given together with them.
        **kwargs: as in mmseg.
    """

    def __init__(
        self,
        name: str = 'visualizer',
        classes: Sequence[str] | None = None,
        palette: Sequence[Sequence[int]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name, **kwargs)  # without classes and palette, which mmseg's constructor would swap
        if classes and palette:
            self.dataset_meta = dict(classes=list(classes), palette=[list(color) for color in palette])

    def set_dataset_meta(
        self,
        classes: Sequence[str] | None = None,
        palette: Sequence[Sequence[int]] | None = None,
        dataset_name: str | None = None,
    ) -> None:
        """As mmseg's, but does nothing without arguments if names have been set before."""
        if classes or palette or dataset_name or not self.dataset_meta:
            super().set_dataset_meta(classes, palette, dataset_name)
