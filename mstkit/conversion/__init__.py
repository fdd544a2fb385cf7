"""Writes encoders in the formats of other libraries, each compared with that library's own network before it is kept.

:mod:`mstkit.formats` reads; here a :class:`Library` builds the other network and writes its files, :func:`compare` is
the gate, and :func:`convert` leads through both.
"""

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)
from mstkit.conversion.converting import Conversion, convert
from mstkit.conversion.gate import Difference, compare
from mstkit.conversion.libraries import LIBRARIES, ONNX
from mstkit.conversion.library import Features, Library

__all__ = ['LIBRARIES', 'ONNX', 'Conversion', 'Difference', 'Features', 'Library', 'compare', 'convert']
