"""Visualization: panels of a training step, sheets of masks and attention, curves and figures."""

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)
from mstkit.visualization.accuracy_curves import Curve, draw_curves
from mstkit.visualization.step_panels import draw_panels

__all__ = ['Curve', 'draw_curves', 'draw_panels']
