from mstkit.models.targets.base import Target, build_target
from mstkit.models.targets.pixels import Pixels

__all__ = ['Pixels', 'Target', 'build_target']
