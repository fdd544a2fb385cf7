"""A step of a model held against a reference in float64 on the same weights."""

from __future__ import annotations

from torch import Tensor, nn


def in_float64(model: nn.Module) -> dict[str, Tensor]:
    """The parameters by name, copied, to compute a reference from; they get gradients where the model's do."""
    return {name: one.detach().double().requires_grad_(one.requires_grad) for name, one in model.named_parameters()}


def check_gradients(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Every gradient is that of the reference to 1e-5, and what is not trained has none."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            found, expected = parameter.grad, weights[name].grad
            assert found is not None and expected is not None, name
            error = (found - expected).norm() / (expected.norm() + 1e-3)
            assert error < 1e-5, f'{name}: {error}'
        else:
            assert parameter.grad is None
