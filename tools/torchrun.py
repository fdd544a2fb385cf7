"""Starts a program in several processes: ``python tools/torchrun.py PROCESSES SCRIPT``, which is ``mstkit torchrun``.

The folder of the clone is where mstkit is looked for last, so that tools/dist_train.sh runs where it is not installed.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from mstkit.commands.torchrun_command import main

if __name__ == '__main__':
    main()
