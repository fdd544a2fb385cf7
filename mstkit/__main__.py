"""``mstkit COMMAND``, also as ``python -m mstkit COMMAND``: sets how threads wait, then runs the command."""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

from mstkit.commands.command_table import main

if __name__ == '__main__':
    main()
