"""The optimizer wrapper and its parameter groups, precision, and schedules counted in optimizer steps."""
