"""Presets of the linear probe, with the settings of papers."""

from __future__ import annotations

from typing import NamedTuple

AUGMENTATIONS = ('none', 'crop')


class LinearProtocol(NamedTuple):
    """The settings of a linear probe.

    Attributes:
        features: a name in :data:`mstkit.evaluation.protocols.linear_head.FEATURES`.
        rates: learning rates.
        per_256: whether the rates are per 256 images, so that SGD uses rate * batch_size / 256.
        batch_size: images per step of SGD.
        epochs: number of passes over the train images.
        augmentation: 'crop' computes features of new random crops and flips every epoch; 'none' computes the features
            of center crops once.
        standardize: whether each channel of the features is brought to mean 0 and variance 1 over the train images
            (center crops) before the linear layer, as by MAE's batch normalization without parameters. Without it, the
            scale of the features decides how far a learning rate carries.
    """

    features: str = 'last4'
    rates: tuple[float, ...] = (0.001,)
    per_256: bool = True
    batch_size: int = 1024
    epochs: int = 100
    augmentation: str = 'crop'
    standardize: bool = False


RATES = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
PRESETS = {
    # mstkit's default: half decades around DINO's rate. Without augmentation it needs one pass over the images instead
    # of a hundred; small batches give enough steps with small folders.
    'sweep': LinearProtocol(rates=RATES, batch_size=256, augmentation='none'),
    # He et al., arXiv 2111.06377, appendix A.1: batch normalization without parameters before the layer, 90 epochs;
    # with sweep's stored features and many rates of SGD in place of LARS and one rate. For masked image modeling.
    'mae': LinearProtocol('last', RATES, batch_size=256, epochs=90, augmentation='none', standardize=True),
    # Caron et al., arXiv 2104.14294, for ViT-S; ViT-B takes features='last_mean'.
    'dino': LinearProtocol(),
    # Zhou et al., arXiv 2111.07832: 45 rates, of which the best is reported.
    'ibot': LinearProtocol(rates=tuple(float(f'{digit}e{power}') for power in range(-4, 1) for digit in range(1, 10))),
    # Kakogeorgiou et al., arXiv 2203.12719.
    'attmask': LinearProtocol(rates=(0.005,), batch_size=2048),
    # Li et al., arXiv 2106.05656, appendix E, taken literally: the last CLS token, and a rate that is not multiplied by
    # the batch size. It is 17 times below DINO's at the same batch size, so the paper probably used another one.
    'mst_paper_literal': LinearProtocol(features='last', rates=(0.00024,), per_256=False),
}
