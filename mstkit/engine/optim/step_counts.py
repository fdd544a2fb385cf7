"""Conversion of iterations to optimizer steps, and random seeds derived from several numbers."""

from __future__ import annotations

from dataclasses import dataclass

from mstkit.structures import Progress

_WORD = (1 << 64) - 1


def mix_seed(*parts: int) -> int:
    """Mixes whole numbers into one 63-bit seed; neighboring inputs give unrelated seeds.

    The mixing function is the finalizer of SplitMix64 (Steele, Lea and Flood, 2014), applied once per part.

    Args:
        parts: for example the run's seed, the rank and the iteration; their order matters.

    Returns:
        A number in [0, 2**63).
    """
    state = 0
    for part in parts:
        state = (state ^ (part & _WORD)) + 0x9E3779B97F4A7C15 & _WORD
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _WORD
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _WORD
        state ^= state >> 31
    return state >> 1


@dataclass(frozen=True)
class StepCounter:
    """Counts optimizer steps of a run that accumulates gradients.

    Gradients never accumulate over the end of an epoch: where ``accumulative_counts`` does not divide the epoch, its
    last step uses the iterations that are left. So an epoch has a whole number of steps, and a checkpoint written at
    its end loses no gradient.

    Attributes:
        iters_per_epoch: iterations (batches) of one epoch on one rank.
        max_epochs: epochs of the run.
        accumulative_counts: iterations per optimizer step.
    """

    iters_per_epoch: int
    max_epochs: int
    accumulative_counts: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch."""
        return -(-self.iters_per_epoch // self.accumulative_counts)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.max_epochs * self.steps_per_epoch

    def step_of(self, iteration: int) -> int:
        """The index, from 0, of the optimizer step that an iteration contributes to."""
        epoch, position = divmod(iteration, self.iters_per_epoch)
        return epoch * self.steps_per_epoch + position // self.accumulative_counts

    def progress(self, iteration: int, rank_seed: int = 0) -> Progress:
        """The step, epoch and lengths of the run just before an iteration."""
        return Progress(
            step=self.step_of(iteration),
            total_steps=self.total_steps,
            steps_per_epoch=self.steps_per_epoch,
            rank_seed=rank_seed,
            iteration=iteration,
        )
