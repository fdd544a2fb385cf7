from mstkit.models.guides.base import Guide, build_guide
from mstkit.models.guides.teacher import TeacherGuide

__all__ = ['Guide', 'TeacherGuide', 'build_guide']
