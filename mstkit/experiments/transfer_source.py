"""The pre-trained backbone that is transferred."""

from __future__ import annotations

import hashlib
import mmap
from dataclasses import dataclass, field
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mstkit.formats import read_pretrained
from mstkit.interop import fit_backbone
from mstkit.interop.checkpoint import only_branch
from mstkit.utils.build_errors import build_guard
from mstkit.utils.home_folder import expanded


@dataclass(frozen=True)
class Source:
    """One branch of a checkpoint of a pre-training.

    Attributes:
        path: the file.
        branch: ``'student'`` or ``'teacher'``.
        epoch: after which it was written; None if not recorded.
        digest: of the file's bytes.
        content: the part of the checkpoint with this backbone.
    """

    path: str
    branch: str
    epoch: int | None
    digest: str
    content: dict[str, Any] = field(repr=False, compare=False)

    def __str__(self) -> str:
        return f'{self.branch} of {self.path}{"" if self.epoch is None else f", epoch {self.epoch}"}'

    def check_fits(self, config: Config) -> None:
        """Builds the backbone of a downstream config, and checks that this one can be loaded into it.

        Raises:
            UsageError: it is another network, or it cannot be built.
        """
        backbone = (config.get('model') or {}).get('backbone')
        if backbone is None:
            return  # a model without model.backbone: only the run itself can check the weights
        with DefaultScope.overwrite_default_scope(config.default_scope), build_guard():
            module = MODELS.build(dict(backbone))
        fit_backbone(module, self.content, self.branch, self.path)


def read_source(path: str, branch: str = 'student') -> Source:
    """Reads a checkpoint.

    Args:
        path: the file.
        branch: ``'student'`` or ``'teacher'``.

    Raises:
        UsageError: not a checkpoint, or one without that branch.
    """
    content = only_branch(read_pretrained(path), branch)
    with open(expanded(path), 'rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        digest = hashlib.sha256(mapped).hexdigest()[:16]
    return Source(path, branch, content['meta'].get('epoch'), digest, content)
