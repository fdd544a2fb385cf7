"""Reads checkpoints and configs of other programs as data, without executing any code in them.

Importing it makes mmengine, too, read local checkpoints as plain data
(:func:`mstkit.interop.checkpoint.install_loader`).
"""

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)
from mstkit.interop.backbone_names import mmpretrain_state
from mstkit.interop.checkpoint import (
    BRANCH_PREFIXES,
    branch_state,
    branches_of,
    install_loader,
    load_strict,
    only_branch,
    read_checkpoint,
)
from mstkit.interop.data_files import read_data
from mstkit.interop.foreign_checkpoints import plain_names, recognize
from mstkit.interop.literal_config import parse_config_text
from mstkit.interop.pretrained import LoadReport, fit_backbone, load_backbone
from mstkit.utils.trusted_config import registered, trusted_part

install_loader()

__all__ = [
    'BRANCH_PREFIXES',
    'LoadReport',
    'branch_state',
    'branches_of',
    'fit_backbone',
    'load_backbone',
    'load_strict',
    'mmpretrain_state',
    'only_branch',
    'parse_config_text',
    'plain_names',
    'read_checkpoint',
    'read_data',
    'recognize',
    'registered',
    'trusted_part',
]
