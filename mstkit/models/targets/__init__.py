from mstkit.models.targets.base import Target, build_target
from mstkit.models.targets.hog import HOG
from mstkit.models.targets.pixels import Pixels

__all__ = ['HOG', 'Pixels', 'Target', 'build_target']
