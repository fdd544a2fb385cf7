"""Checkpoints that the tests of this folder share."""

from __future__ import annotations

import pytest

from .pretrained import SMALL_WINDOW, Source


@pytest.fixture(scope='session')
def vit(tmp_path_factory) -> Source:
    return Source(tmp_path_factory.mktemp('vit') / 'epoch_3.pth')


@pytest.fixture(scope='session')
def swin(tmp_path_factory) -> Source:
    return Source(tmp_path_factory.mktemp('swin') / 'epoch_3.pth', 'swin')


@pytest.fixture(scope='session')
def small_window(tmp_path_factory) -> Source:
    return Source(tmp_path_factory.mktemp('window') / 'epoch_3.pth', 'swin', backbone=SMALL_WINDOW)
