"""Marks of log records: ``logger.info(text, extra=ON_SCREEN)``.

A short screen (:mod:`mstkit.engine.screen`) shows warnings, errors and what is marked; the log file gets everything.
"""

from __future__ import annotations

from types import MappingProxyType

MARK = 'on_screen'
ON_SCREEN = MappingProxyType({MARK: True})
