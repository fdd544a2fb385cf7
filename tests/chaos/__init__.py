"""Campaigns that break trainings on purpose: ``python tools/dev/chaos.py``. The slow tests run a short form of each."""
