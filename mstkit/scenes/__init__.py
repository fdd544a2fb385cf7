"""The built-in images of the demo and the tests: drawn scenes of ten classes, as a data set and as files."""

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)

from .scene_dataset import BuiltinScenes

__all__ = ['BuiltinScenes']
