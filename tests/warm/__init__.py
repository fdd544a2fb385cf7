"""Interpreters that have imported much already, in place of ``sys.executable``.

:func:`python` names one that has imported everything, :func:`foundations_python` one without mstkit.
"""

from .server import foundations_python, plain_python, python, start, start_foundations

__all__ = ['foundations_python', 'plain_python', 'python', 'start', 'start_foundations']
