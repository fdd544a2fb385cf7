"""Marks of log records: ``logger.info(text, extra=ON_SCREEN)``; and who listens to a log.

A short screen (:mod:`mstkit.engine.screen`) shows warnings, errors and what is marked; the log file gets everything.
"""

from __future__ import annotations

import io
import logging
from types import MappingProxyType
from typing import TextIO

MARK = 'on_screen'
ON_SCREEN = MappingProxyType({MARK: True})


class LogListener(logging.Handler):
    """A handler that may be added to mmengine's logger.

    Attributes:
        stream: never written to; mmengine's backend for MLflow asks each handler of the logger whether it is closed.
    """

    stream: TextIO = io.StringIO()
