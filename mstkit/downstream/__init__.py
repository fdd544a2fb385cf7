"""Detection and segmentation with mmdet and mmseg: the only room that imports them.

``import mstkit`` leaves it alone. A config reaches it by ``custom_imports``, which names
``mstkit.downstream.detection`` or ``mstkit.downstream.segmentation``.
"""
