"""Makes a release file of a checkpoint: ``python tools/dev/publish_model.py``, which is ``mstkit publish``."""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

from mstkit.commands.publish_command import main

if __name__ == '__main__':
    main()
