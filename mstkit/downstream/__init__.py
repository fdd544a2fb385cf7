"""Detection and segmentation with mmdet and mmseg, the only package that uses them and mmcv's operators; keypoints.

Importing it makes ``mmcv.ops`` importable (:mod:`mstkit.downstream.mmcv_operators`), which has to be done before mmdet
or mmseg is imported. It imports neither: a config names ``mstkit.downstream.detection``,
``mstkit.downstream.segmentation`` or ``mstkit.downstream.keypoints``, which needs neither, in its ``custom_imports``.
So the tools of mmdet, mmseg and mmpretrain run the configs of configs/downstream, and read checkpoints as data
(:mod:`mstkit.interop`).
"""

import mstkit.interop  # noqa: F401
from mstkit.downstream import mmcv_operators

mmcv_operators.install()
