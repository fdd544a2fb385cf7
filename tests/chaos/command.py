"""Breaks trainings on purpose and counts what survives: ``python tools/dev/chaos.py kills --count 100 --out DIR``.

Needs a clone with its tests. What was found is in docs/en/reliability.md.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from mstkit.errors import exit_cleanly
from tests.chaos.damaged_images import damage
from tests.chaos.full_disks import fill
from tests.chaos.generated_arguments import vary
from tests.chaos.injected_numbers import inject
from tests.chaos.kills import kill
from tests.chaos.lost_places import take
from tests.chaos.odd_configs import vary_configs
from tests.chaos.outcomes import Outcome, write_outcome
from tests.chaos.small_runs import write_images
from tests.chaos.tight_limits import limit

CAMPAIGNS: dict[str, Callable[..., Outcome]] = dict(
    kills=kill,
    signals=functools.partial(kill, gentle=True),
    disk=fill,
    data=damage,
    numbers=inject,
    limits=limit,
    arguments=vary,
    places=take,
    configs=vary_configs,
)


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('campaign', choices=tuple(CAMPAIGNS))
    parser.add_argument('--count', type=int, default=100, help='how often something is broken')
    parser.add_argument('--seed', type=int, default=0, help='of the moments')
    parser.add_argument('--out', default='work_dirs/chaos', metavar='DIR', help='for CAMPAIGN.json')
    return parser.parse_args()


@exit_cleanly
def main() -> None:
    """Runs a campaign; exits with 1 if it found a fault."""
    args = parse_args()
    out = Path(args.out).absolute()  # a campaign may work in a folder of its own
    folder = Path(tempfile.mkdtemp(prefix='chaos'))
    images = write_images(folder / 'images')
    outcome = CAMPAIGNS[args.campaign](images, folder, args.count, args.seed)
    print(f'wrote {write_outcome(out, outcome, vars(args))}')
    sys.exit(bool(outcome.faults))
