"""Makes a tokenizer: ``python tools/train_tokenizer.py``, which is ``mstkit train-tokenizer``."""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

from mstkit.commands.train_tokenizer_command import main

if __name__ == '__main__':
    main()
