"""Access to parts of a config."""

from __future__ import annotations

from typing import Any

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)

# isort: split
from mmengine.config import Config


def hook_configs(config: Config | dict[str, Any]) -> list[tuple[str, dict]]:
    """The dotted path and the dict of every hook of a config, from ``default_hooks`` and ``custom_hooks``."""
    default, custom = config.get('default_hooks') or {}, config.get('custom_hooks') or []
    named = [(f'default_hooks.{name}', hook) for name, hook in default.items()]
    named += [(f'custom_hooks.{index}', hook) for index, hook in enumerate(custom)]
    return [(path, hook) for path, hook in named if hook is not None]
