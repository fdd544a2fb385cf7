"""MAE with a loss that weighs attended patches more (AttG-MAE), ViT-S/16, 800 epochs of ImageNet-1k.

Command: bash tools/dist_train.sh configs/mae/mae_vit-s_800e_attg.py 8 --auto-scale-lr
(MAE's batch is 4096, for example 64 processes x 64 images; --auto-scale-lr fits the lr to any other)
A hidden patch counts exp(m / tau) times, m its score from 0 to 1; masks stay random. The paper's scores are maps of
TokenCut and its temperature moves along half a cosine; its values were not found, so these are ours, and the scores are
those of an average of the encoder itself. Give model.guide.type=frozen model.guide.source=FILE for another network's.
Paper: AttG-MAE (arXiv 2402.15172). Not reproduced here.
"""

_base_ = './mae_vit-s_800e.py'

model = dict(
    guide=dict(type='ema', momentum=0.999),
    weighting=dict(temperature=1.0, end_temperature=0.5),
)
