"""Creates label maps for training on Cityscapes.

``python tools/dataset_converters/cityscapes_train_ids.py`` is ``mstkit cityscapes-train-ids``.
"""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

from mstkit.commands.cityscapes_train_ids_command import main

if __name__ == '__main__':
    main()
