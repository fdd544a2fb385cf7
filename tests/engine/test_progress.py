"""Iterations, steps and seeds."""

from __future__ import annotations

import pytest
import torch

from mstkit.engine.optim.step_counts import StepCounter, mix_seed

from . import running


def test_step_counter_counts_like_a_loop():
    counter = StepCounter(iters_per_epoch=7, max_epochs=3, accumulative_counts=3)
    step = iteration = 0
    for epoch in range(3):
        for position in range(7):
            progress = counter.progress(iteration)
            assert (progress.step, progress.epoch, progress.iteration) == (step, epoch, iteration)
            step += (position + 1) % 3 == 0 or position == 6
            iteration += 1
    assert counter.total_steps == step == 9
    assert counter.steps_per_epoch == 3


def test_mixed_seeds_differ():
    seeds = {mix_seed(seed, rank, iteration) for seed in range(8) for rank in range(8) for iteration in range(64)}
    assert len(seeds) == 8 * 8 * 64
    assert all(0 <= seed < 1 << 63 for seed in seeds)
    assert mix_seed(1, 2) != mix_seed(2, 1)
    ones = sum(bin(seed).count('1') for seed in seeds) / len(seeds)
    assert ones == pytest.approx(31.5, abs=0.3), 'bits are balanced'


def test_model_is_told_and_followed(tmp_path):
    runner = running.train(tmp_path)
    model = runner.model
    assert [progress.step for progress, _ in model.seen] == list(range(12))
    assert [progress.epoch for progress, _ in model.seen] == [0] * 4 + [1] * 4 + [2] * 4
    assert {progress.total_steps for progress, _ in model.seen} == {12}
    assert model.steps == 12
    for epoch in range(3):
        indices = [index for _, batch in model.seen[4 * epoch : 4 * epoch + 4] for index in batch]
        assert sorted(indices) == list(range(16))


def test_what_happens_between_iterations_does_not_matter(tmp_path):
    """Drawing numbers elsewhere leaves the run as it was: every step's randomness is keyed."""
    from mmengine.hooks import Hook

    class Draws(Hook):
        priority = 'HIGHEST'

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            torch.rand(runner.iter + 3)

    quiet = running.train(tmp_path / 'a')
    noisy = running.build(tmp_path / 'b')
    noisy.register_hook(Draws())
    noisy.train()
    assert running.same(quiet.model.state_dict(), noisy.model.state_dict())
    other = running.train(tmp_path / 'c', randomness=dict(seed=1))
    assert not running.same(quiet.model.state_dict(), other.model.state_dict())
