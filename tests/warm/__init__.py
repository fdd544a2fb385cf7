"""Interpreters that have imported everything already; :func:`python` names one, in place of ``sys.executable``."""

from .server import python, start

__all__ = ['python', 'start']
