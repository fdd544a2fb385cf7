"""Pictures for people: panels of a training step."""

from mstkit.visualization.panels import draw_panels

__all__ = ['draw_panels']
