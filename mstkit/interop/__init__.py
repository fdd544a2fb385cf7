"""Checkpoints and configs from elsewhere, read as data and never as programs."""

from mstkit.interop.checkpoint import BRANCH_PREFIXES, branch_state, load_strict, read_checkpoint
from mstkit.interop.literal_config import parse_config_text

__all__ = ['BRANCH_PREFIXES', 'branch_state', 'load_strict', 'parse_config_text', 'read_checkpoint']
