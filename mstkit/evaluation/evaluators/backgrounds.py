"""Dependence on image backgrounds: accuracy on images whose background is exchanged or removed (ImageNet-9)."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence

from mmengine.dataset.base_dataset import Compose
from mmengine.logging import print_log

from mstkit.datasets import CenterView, ImageFolder, LoadRGB, PackViews
from mstkit.errors import UsageError
from mstkit.evaluation.benchmarks.imagenet9 import find_variants, numbers_of, read_class_map
from mstkit.evaluation.evaluated_network import EvaluatedNetwork
from mstkit.evaluation.features import extract_features, feature_loader
from mstkit.evaluation.protocols.linear_head import LinearHead, head_path, load_head
from mstkit.registry import EVALUATORS


@EVALUATORS.register_module(name='backgrounds')
class BackgroundsEvaluator:
    """Accuracy of a linear head on the variants of ImageNet-9 (Xiao et al., arXiv 2006.09994), or on your own variants.

    The folder has the layout of the public data set: ``VARIANT/val/CLASS/*``, where ``val`` may be missing. The
    background gap is mixed_same - mixed_rand: the accuracy lost to backgrounds of another class.

    With a class map, the head has the classes of the map (ImageNet-1k). Its prediction among all of them is mapped to
    the nine classes; any other class counts as wrong. Class folders start with their number (``00_dog``), and images
    are not cropped, as the data set has them at 224 pixels. Without a class map, the class folders are classes of the
    head, and images are resized and cropped as in other evaluations.

    Args:
        head: a :class:`~mstkit.evaluation.protocols.linear_head.LinearHead` of the network, or its file;
            ``{network}`` in the file name stands for the network's name.
        data: the folder of the variants.
        class_map: the file ``in_to_in9.json``.
        variants: names of variants; by default see :func:`mstkit.evaluation.benchmarks.imagenet9.find_variants`.

    Raises:
        UsageError: the folder or a variant is missing, or the head or the folder was not given.
    """

    def __init__(
        self,
        head: LinearHead | str | os.PathLike[str] | None = None,
        data: str | os.PathLike[str] | None = None,
        class_map: str | os.PathLike[str] | None = None,
        variants: Sequence[str] | None = None,
    ) -> None:
        if head is None or data is None:
            missing = 'head (linear_head.pth)' if head is None else 'data (the folder of the variants)'
            raise UsageError(f'backgrounds needs backgrounds.{missing}.')
        self.head = head
        self.data = data
        self.class_map = class_map
        self._folders: dict[tuple[str, tuple[str, ...] | None], ImageFolder] = {}
        self.variants, self.missing = find_variants(data, [variants] if isinstance(variants, str) else variants)

    def check(self, evaluated: EvaluatedNetwork) -> None:
        """Refuses a head of another network, and a map or folders of other classes; raises UsageError."""
        head = self._head(evaluated)
        head.check(evaluated.network)
        number = None if self.class_map is None else read_class_map(self.class_map, len(head.classes))
        for variant in self.variants:
            folder = self._images(evaluated, variant, head)
            if number is not None:
                numbers_of(folder.metainfo['classes'], int(number.max()))

    def __call__(self, evaluated: EvaluatedNetwork) -> dict[str, float]:
        """Measures the accuracy on each variant.

        Args:
            evaluated: its train and val folders are not used.

        Returns:
            Percent by ``backgrounds_{variant}_top1``, and ``backgrounds_gap`` if both of its variants are present.
        """
        if self.missing:
            print_log(
                f'backgrounds: {len(self.missing)} variants are not in {self.data} and are left out: '
                f'{", ".join(self.missing)}',
                logger='current',
            )
        head = self._head(evaluated).to(evaluated.device)
        number = None if self.class_map is None else read_class_map(self.class_map, len(head.classes))
        accuracy = {}
        for variant in self.variants:
            folder = self._images(evaluated, variant, head)
            seen = extract_features(
                lambda images: head.predict(evaluated.network, images)[:, None].float(),
                feature_loader(folder, evaluated.batch_size, evaluated.num_workers),
                evaluated.device,
                evaluated.preprocess,
                f'{variant} seen by {evaluated.network.name}',
            )
            predicted, labels = seen.features[:, 0].long(), seen.labels
            if number is not None:
                predicted, labels = number[predicted], numbers_of(seen.classes, int(number.max()))[labels]
            accuracy[variant] = 100.0 * float((predicted == labels).double().mean())
        metrics = {f'backgrounds_{variant}_top1': value for variant, value in accuracy.items()}
        if {'mixed_same', 'mixed_rand'} <= set(accuracy):
            metrics = {'backgrounds_gap': background_gap(accuracy), **metrics}
        return metrics

    def headlines(self) -> list[str]:
        """The accuracies, without the gap."""
        return [f'backgrounds_{variant}_top1' for variant in self.variants]

    def folder(self, variant: str) -> str:
        """The folder that contains the class folders of a variant."""
        root = os.path.join(os.path.expanduser(self.data), variant)
        return os.path.join(root, 'val') if os.path.isdir(os.path.join(root, 'val')) else root

    def _head(self, evaluated: EvaluatedNetwork) -> LinearHead:
        if isinstance(self.head, LinearHead):
            return self.head
        return load_head(head_path(self.head, evaluated.network))

    def _images(self, evaluated: EvaluatedNetwork, variant: str, head: LinearHead) -> ImageFolder:
        """The images of a variant; labels index the classes of the head, or with a class map those of the folder."""
        classes = head.classes if self.class_map is None else None
        if (variant, classes) not in self._folders:  # opened once, for check() and for all networks
            metainfo = None if classes is None else dict(classes=classes)
            self._folders[variant, classes] = ImageFolder(self.folder(variant), '', labeled=True, metainfo=metainfo)
        size = evaluated.network.image_size
        view = CenterView(size, size) if classes is None else evaluated.center_view()
        dataset = copy.copy(self._folders[variant, classes])
        dataset.pipeline = Compose([LoadRGB(), view, PackViews()])
        return dataset


def background_gap(accuracy: Mapping[str, float]) -> float:
    """Accuracy on mixed_same minus that on mixed_rand, in percentage points."""
    return accuracy['mixed_same'] - accuracy['mixed_rand']
