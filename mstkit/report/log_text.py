"""What the text log of a run says: the environment, what was chosen at the start, warnings, and how it ended."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# "2026/11/21 10:44:26 - mmengine - INFO - ..." in the log file, without the year on the screen.
# mmengine says of an error where in the code it was logged: file, function, line.
_LINE = re.compile(
    r'(?:\d{4}/)?\d\d/\d\d \d\d:\d\d:\d\d - [\w.-]+ - (?P<level>[A-Z]+) - (?:.+?\.py - [\w<>]+ - \d+ - )?(?P<text>.*)'
)
_EPOCH = re.compile(r'Epoch\(train\)\s+\[(?P<epoch>\d+)\]\[\s*(?P<iter>\d+)/(?P<length>\d+)\]')
_ITERATION = re.compile(r'Iter\(train\)\s+\[\s*(?P<iter>\d+)/(?P<length>\d+)\]')
_SETTING = re.compile(r' {4}(?P<name>[A-Za-z][\w ]*): (?P<value>.+)')
_PROGRESS = re.compile(r'(?:Epoch|Iter)\((?:train|val|test)\)')
_TRAINED = re.compile(r'(?:Epoch|Iter)\(train\)')
# The first is what mstkit.engine.ending writes; the second stood on the screen alone before it did.
_STOPPED = re.compile(r'the run stopped at iteration (?P<iter>\d+) \(epoch (?P<epoch>\d+)\): (?P<reason>.*)')
_DIVERGED = re.compile(
    r'the (?:loss is|weights are) no longer finite\b(?:.*? at iteration (?P<iter>\d+) \(epoch (?P<epoch>\d+)\))?'
)
_INTERRUPTED = re.compile(r'interrupted from the keyboard|KeyboardInterrupt')
# Said once a measurement or for every tensor: it stands elsewhere on the page, or nobody needs it.
_COMMONPLACE = re.compile(
    r'paramwise_options|Hooks will be executed|Saving checkpoint|k-NN epoch|features epoch|panels of epoch|Exp name'
    r'|Checkpoints will be saved|"FileClient" will be deprecated|"HardDiskBackend"|Evaluating |Config:?$'
    r'|bbox_mAP_copypaste|segm_mAP_copypaste|per class results|Distributed training is not used'
)
_LONGEST = 400
_ENVIRONMENT_LEFT_OUT = ('PyTorch compiling details', 'mp_cfg', 'dist_cfg')


@dataclass(frozen=True)
class Stop:
    """That a training ended before its time, and why, in its own words.

    Attributes:
        reason: a sentence, or the last line of a traceback.
        iteration: where; None where it was not said.
        epoch: the one that it was in, counted from 1; None where it was not said.
        final: whether nothing can come after it. A traceback on the screen may be that of a data worker.
    """

    reason: str
    iteration: int | None = None
    epoch: int | None = None
    final: bool = False

    @property
    def diverged(self) -> bool:
        """The loss or the weights were no longer finite."""
        return _DIVERGED.search(self.reason) is not None

    @property
    def interrupted(self) -> bool:
        """Somebody pressed Ctrl-C."""
        return _INTERRUPTED.match(self.reason) is not None


@dataclass
class LogText:
    """One run's text logs.

    Attributes:
        environment: versions and settings by name, as mmengine lists them.
        chosen: lines of the start that say what was decided or found.
        warnings: how often each was given.
        later: other lines after training began.
        stop: why the newest process stopped before its end; None where it did not, or did not say so.
        epoch_length: iterations of an epoch; None where the run counts in iterations or nothing says it.
        started: when the first process began, as the name of its folder says.
    """

    environment: dict[str, str] = field(default_factory=dict)
    chosen: list[str] = field(default_factory=list)
    warnings: dict[str, int] = field(default_factory=dict)
    later: list[str] = field(default_factory=list)
    stop: Stop | None = None
    epoch_length: int | None = None
    started: str | None = None


def read_log(logs: Sequence[Path], screen: Path | None = None) -> LogText:
    """Reads logs.

    Args:
        logs: mmengine's ``TIMESTAMP.log`` files, in their order.
        screen: what the training printed, as ``tools/ablate.py`` and ``tools/transfer.py`` keep it; it alone holds
            what the launcher said before mmengine's log began, and a traceback.
    """
    log = LogText()
    for file in logs:
        _read_one(log, file.read_text(encoding='utf-8', errors='replace').splitlines())
        stamp = re.fullmatch(r'(\d{4})(\d\d)(\d\d)_(\d\d)(\d\d)(\d\d)', file.stem)
        if stamp and log.started is None:
            log.started = '{}-{}-{} {}:{}:{}'.format(*stamp.groups())
    if screen is not None and screen.is_file():
        _read_screen(log, screen.read_text(encoding='utf-8', errors='replace').splitlines())
    return log


def _read_one(log: LogText, lines: Iterable[str]) -> None:
    begun = listing = False
    for line in lines:
        found = _LINE.match(line)
        if found is None:
            listing = listing or line.startswith('System environment:')
            setting = _SETTING.match(line)
            if setting and listing and setting['name'] not in _ENVIRONMENT_LEFT_OUT:
                log.environment.setdefault(setting['name'], setting['value'].strip())
            continue
        listing = False
        text = found['text'].strip()
        epoch = _EPOCH.search(text)
        if epoch:
            log.epoch_length = int(epoch['length'])
        stopped = _STOPPED.match(text)
        if stopped:
            log.stop = Stop(stopped['reason'], int(stopped['iter']), int(stopped['epoch']), final=True)
        elif _TRAINED.search(text):
            log.stop = None  # that of an earlier process, from which this one goes on
        if _PROGRESS.search(text):
            begun = True
        elif text and not _COMMONPLACE.search(text):
            _sort(log, text[:_LONGEST], found['level'], begun)


def _sort(log: LogText, text: str, level: str, begun: bool) -> None:
    if level in ('WARNING', 'ERROR', 'CRITICAL'):
        log.warnings[text] = log.warnings.get(text, 0) + 1
    elif begun:
        log.later.append(text)
    elif text not in log.chosen:
        log.chosen.append(text)


def _read_screen(log: LogText, lines: Sequence[str]) -> None:
    notes = []
    for line in lines:
        if _LINE.match(line) or not line.strip():
            break
        notes.append(line.strip()[:_LONGEST])
    log.chosen[:0] = [note for note in notes if note not in log.chosen and not note.startswith('error: ')]
    if log.stop is not None:
        return
    # What stands before a step of training was said by an earlier process, from which a later one went on.
    trained = [index for index, line in enumerate(lines) if _TRAINED.search(line)]
    lines = lines[trained[-1] + 1 :] if trained else lines
    refused = [line.removeprefix('error: ') for line in lines if line.startswith('error: ')]
    traces = [index for index, line in enumerate(lines) if line.startswith('Traceback (most recent call last)')]
    if traces:
        said = [line for line in lines[traces[-1] + 1 :] if line and not line.startswith((' ', '\t'))]
        log.stop = _as_stop((said[0] if said else 'a traceback without its last line')[:_LONGEST])
    elif refused:
        log.stop = _as_stop(refused[-1])


def _as_stop(reason: str) -> Stop:
    where = _DIVERGED.search(reason)
    if where is None or where['iter'] is None:
        return Stop(reason)
    return Stop(reason, int(where['iter']), int(where['epoch']))
