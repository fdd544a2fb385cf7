"""What the tests of downstream runs share."""

from __future__ import annotations

from ..engine.conftest import _no_inventory, _no_waiting_for_the_disk

__all__ = ['_no_inventory', '_no_waiting_for_the_disk']
