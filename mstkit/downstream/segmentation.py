"""What configs of mmseg import: ``custom_imports = dict(imports=['mstkit', 'mstkit.downstream.segmentation'])``."""

from mstkit.downstream import label_checks, label_maps

__all__ = ['label_checks', 'label_maps']
