"""A run formats the text of its config once."""

from __future__ import annotations

import copy
from typing import Any

import yapf.yapflib.yapf_api
from mmengine.config import Config

from mstkit.engine.config.formatted_config import formatted_once

from . import running


def counted(monkeypatch) -> list[str]:
    texts: list[str] = []

    def keep(text: str, **_: Any) -> tuple[str, bool]:
        texts.append(text)
        return text, False

    monkeypatch.setattr(yapf.yapflib.yapf_api, 'FormatCode', keep)
    return texts


def test_the_text_is_mmengines_and_follows_changes(monkeypatch, tmp_path):
    (tmp_path / 'x.py').write_text("a = dict(b=1, c=[1.5, 'x'])")
    config = Config.fromfile(tmp_path / 'x.py')
    texts, kept = counted(monkeypatch), formatted_once(copy.deepcopy(config))
    assert kept.pretty_text == kept.pretty_text == copy.deepcopy(kept).pretty_text == config.pretty_text
    assert len(texts) == 2, 'once for each of the two'
    kept.a.b = 2
    config.a.b = 2
    assert kept.pretty_text == config.pretty_text and 'b=2' in kept.pretty_text
    assert (kept.filename, kept.to_dict()) == (config.filename, config.to_dict())


def test_a_run_formats_its_config_once(monkeypatch, tmp_path):
    texts = counted(monkeypatch)
    running.train(tmp_path, train_cfg__max_epochs=1)
    assert len([text for text in texts if 'train_cfg' in text]) == 1
    assert (tmp_path / 'epoch_1.pth').exists()
