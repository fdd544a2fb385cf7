"""Features of a folder of images, written to a file for programs of one's own."""

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)
from mstkit.embedding.embed_folder import Embedded, embed_folder
from mstkit.embedding.feature_files import check_out

__all__ = ['Embedded', 'check_out', 'embed_folder']
