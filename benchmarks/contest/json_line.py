"""Prints the results of a benchmark as one line of JSON, for programs."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from typing import Any

from mstkit.utils.files import write_atomically


def machine() -> str:
    """The name of the processor, if the system provides it."""
    return platform.processor() or platform.machine()


def print_line(content: Mapping[str, Any], out: str | None) -> None:
    """Prints the content as one line; writes the same to the file ``out`` where one is named."""
    line = json.dumps(content)
    print(line)
    if out:
        write_atomically(out, f'{line}\n'.encode())
