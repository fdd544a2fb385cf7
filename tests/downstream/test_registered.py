"""Names of mmdet's and mmseg's components in a config that came with weights."""

from __future__ import annotations

from mstkit.interop import registered
from mstkit.registry import MODELS


def test_names_with_a_prefix_are_found_and_module_paths_are_not():
    for name in ('mmdet.SingleRoIExtractor', 'mmdet.MaskRCNN', 'mmseg.SETRUPHead', 'mmseg.EncoderDecoder'):
        assert registered(name, MODELS) is not None, name
        assert registered(name, MODELS) is MODELS.get(name)
    for name in ('mmdet.apis.init_detector', 'mmseg.apis', 'mmdet.models.MaskRCNN', 'mmseg.nothing', 'MaskRCNN'):
        assert registered(name, MODELS) is None, name
