"""Weights of any library and program, read into mstkit's names: namings, kinds of files, anatomy of an encoder.

Data goes one way: :func:`read_weight_file` gives the tensors of a file under flat names, a :class:`Naming` recognizes
and renames those of its encoders, :func:`infer` reads their anatomy off, and :class:`Weights` holds the result, also as
a checkpoint of mstkit. Writing for other libraries is :mod:`mstkit.conversion`.
"""

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)
from mstkit.formats.anatomy import Anatomy, SwinAnatomy, ViTAnatomy
from mstkit.formats.inference import Hints, infer
from mstkit.formats.naming import Naming, Pair
from mstkit.formats.namings import NAMINGS
from mstkit.formats.pretrained_file import read_pretrained
from mstkit.formats.reading import Encoder, Weights, read_weights
from mstkit.formats.weight_file import WeightFile, read_weight_file

__all__ = [
    'NAMINGS',
    'Anatomy',
    'Encoder',
    'Hints',
    'Naming',
    'Pair',
    'SwinAnatomy',
    'ViTAnatomy',
    'WeightFile',
    'Weights',
    'infer',
    'read_pretrained',
    'read_weight_file',
    'read_weights',
]
