"""Fine-tunes a pre-trained backbone in several tasks: ``python tools/transfer.py``, which is ``mstkit transfer``."""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

from mstkit.commands.transfer_command import main

if __name__ == '__main__':
    main()
