from mstkit.models.targets.hog import HOG
from mstkit.models.targets.pixels import Pixels
from mstkit.models.targets.target import Target, build_target
from mstkit.models.targets.teacher_layers import TeacherLayers
from mstkit.models.targets.tokens import Tokens

__all__ = ['HOG', 'Pixels', 'Target', 'TeacherLayers', 'Tokens', 'build_target']
