"""Compares the attention and layers of networks.

``python tools/analysis/dark_secrets.py`` is ``mstkit dark-secrets``.
"""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

from mstkit.commands.dark_secrets_command import main

if __name__ == '__main__':
    main()
