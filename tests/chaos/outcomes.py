"""What a campaign found, in numbers and in words."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mstkit.utils.files import write_atomically


@dataclass
class Outcome:
    """One campaign.

    Attributes:
        name: of the campaign.
        tried: how often something was broken.
        survived: how often it went as it should.
        faults: what went wrong otherwise, a sentence each.
        facts: further numbers.
        seconds: it took.
    """

    name: str
    tried: int = 0
    survived: int = 0
    faults: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def count(self, fault: str | None, tries: int = 1, **facts: int) -> None:
        """Counts tries, and adds to facts.

        Args:
            fault: what went wrong in the last of them; None if nothing did.
            tries: how often something was broken.
            facts: numbers that are summed up over the tries.
        """
        self.tried += tries
        self.survived += tries - (fault is not None)
        if fault is not None:
            self.faults.append(fault)
            print(f'  FAULT: {fault}', flush=True)
        for name, number in facts.items():
            self.facts[name] = self.facts.get(name, 0) + number

    def __str__(self) -> str:
        facts = ''.join(f', {name} {value}' for name, value in self.facts.items())
        return f'{self.name}: {self.survived} of {self.tried} as they should{facts}; {self.seconds:.0f} s'


@contextmanager
def timed(outcome: Outcome) -> Iterator[Outcome]:
    """Context whose seconds are the outcome's; says at the end what was found."""
    start = time.monotonic()
    try:
        yield outcome
    finally:
        outcome.seconds = round(time.monotonic() - start, 1)
        print(outcome, flush=True)


def write_outcome(folder: Path, outcome: Outcome, settings: Mapping[str, Any]) -> Path:
    """Writes an outcome as JSON, and returns the file."""
    file = folder / f'{outcome.name}.json'
    found = dict(asdict(outcome), date=time.strftime('%Y-%m-%d'), settings=dict(settings))
    write_atomically(file, (json.dumps(found, indent=1) + '\n').encode())
    return file
