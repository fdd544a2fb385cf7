"""A linear classifier trained on a frozen network, and its file, which names the network and the classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.evaluation.protocols.weighted_knn import check_finite
from mstkit.utils.checks import check_one_of
from mstkit.utils.files import write_atomically
from mstkit.utils.home_folder import expanded
from mstkit.utils.output_paths import file_name

# The features of a head: how many last blocks are concatenated, and whether the mean of the patch tokens is appended.
FEATURES = {'last': (1, False), 'last_mean': (1, True), 'last4': (4, False), 'last4_mean': (4, True)}
HOW = 'tools/evaluation/evaluate.py --suite linear --set linear.save=linear_head.pth'
_KEYS = ('weight', 'bias', 'classes', 'features', 'fingerprint', 'network')


def check_features(name: str) -> str:
    """Refuses a name that is not in :data:`FEATURES`. Raises UsageError."""
    return check_one_of('linear.features', name, FEATURES)


def head_path(template: str | os.PathLike[str], network: Any) -> Path:
    """The file of a network's head: ``{network}`` in the template becomes the network's name, safe for files."""
    name = file_name(network.name).strip('_')
    return expanded(str(template).replace('{network}', name))


class LinearHead(NamedTuple):
    """A trained head.

    Attributes:
        weight: (K, D) float32.
        bias: (K,) float32.
        classes: the K class names, in the order of the outputs.
        features: the input of the head, a name in :data:`FEATURES`.
        fingerprint: of the network that it was trained on.
        network: that network's name, for messages.
    """

    weight: Tensor
    bias: Tensor
    classes: tuple[str, ...]
    features: str
    fingerprint: str
    network: str

    def to(self, device: torch.device | str) -> LinearHead:
        """The same head on another device."""
        return self._replace(weight=self.weight.to(device), bias=self.bias.to(device))

    def logits(self, features: Tensor) -> Tensor:
        """Logits (B, K) of features (B, D)."""
        return features.float() @ self.weight.T + self.bias

    def predict(self, network: Any, images: Tensor) -> Tensor:
        """Class indices (B,) of normalized images (B, 3, H, W).

        Raises:
            UsageError: the network does not have these features, or they are not finite.
        """
        last_blocks, mean_patch = FEATURES[self.features]
        features = network.features(images, last_blocks=last_blocks, mean_patch=mean_patch)
        check_finite(features, f'images of {network.name}')
        return self.logits(features).argmax(dim=1)

    def check(self, network: Any, classes: Sequence[str] | None = None) -> None:
        """Refuses a network on which the head was not trained, or classes that are not those of the head.

        Args:
            network: has ``name`` and ``fingerprint``.
            classes: the classes of the images to be classified; None allows any.

        Raises:
            UsageError: they differ.
        """
        if network.fingerprint != self.fingerprint:
            same_name = ' (other weights, or a version that computes other features)'
            raise UsageError(
                f'the linear head was trained on {self.network} (fingerprint {self.fingerprint[:12]}), and the network '
                f'is {network.name} ({network.fingerprint[:12]}){same_name if network.name == self.network else ""}: '
                f'give the head of this network, or train one by {HOW}.'
            )
        if classes is None or tuple(classes) == self.classes:
            return
        other = [name for name in classes if name not in self.classes]
        missing = [name for name in self.classes if name not in classes]
        detail = f'{len(other)} unknown to the head' + (f', such as {other[0]!r}' if other else '')
        if missing:
            detail += f'; {len(missing)} of the head are missing, such as {missing[0]!r}'
        if not other and not missing:
            detail = 'the same names in another order'
        raise UsageError(
            f'the linear head knows {len(self.classes)} classes and the images have {len(classes)} ({detail}): '
            'give a head that was trained on these classes.'
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the head, to be read by :func:`load_head` or by ``torch.load(path, weights_only=True)``."""
        content = self._asdict()
        content.update(weight=self.weight.cpu().clone(), bias=self.bias.cpu().clone(), classes=list(self.classes))
        write_atomically(path, lambda file: torch.save(content, file))


def load_head(path: str | os.PathLike[str]) -> LinearHead:
    """Reads a file of :meth:`LinearHead.save`; no code in the file is executed.

    Raises:
        UsageError: the file is missing, is not a head, or has inconsistent shapes.
    """
    file = expanded(path)
    if not file.is_file():
        raise UsageError(f'linear head {file} does not exist; train one by {HOW}.')
    try:
        content = torch.load(file, map_location='cpu', weights_only=True)
    except Exception as error:  # torch, zipfile and pickle raise many kinds of errors for a damaged or foreign file
        first = (str(error).splitlines() or [''])[0][:200]
        raise UsageError(f'{file} cannot be read as a linear head ({type(error).__name__}: {first}).') from error
    if not isinstance(content, dict) or any(key not in content for key in _KEYS):
        found = f'keys {sorted(map(str, content))[:6]}' if isinstance(content, dict) else type(content).__name__
        raise UsageError(f'{file} is no linear head (found {found}; needed {", ".join(_KEYS)}): train one by {HOW}.')
    head = LinearHead(**{key: content[key] for key in _KEYS})._replace(classes=tuple(map(str, content['classes'])))
    check_features(head.features)
    if head.weight.ndim != 2 or head.bias.shape != head.weight.shape[:1] or len(head.classes) != len(head.bias):
        raise UsageError(
            f'{file} is damaged: its weight is {tuple(head.weight.shape)}, its bias {tuple(head.bias.shape)}, and it '
            f'names {len(head.classes)} classes.'
        )
    return head
