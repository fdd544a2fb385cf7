"""MAE with AutoMAE's generated masks, ViT-B/16, 800 epochs of ImageNet-1k.

Command: bash tools/dist_train.sh configs/mae/mae-automae_vit-b_800e.py 8 --auto-scale-lr
(MAE's batch is 4096, for example 64 processes x 64 images; --auto-scale-lr fits the lr to any other)
Paper: AutoMAE (arXiv 2303.06583), fine-tuned 83.32, linear 66.7, by the attention of a ViT that MAE has trained for 800
epochs: `--cfg-options model.guide.source.type=frozen model.guide.source.source=FILE`. Without it the generator gets the
attention of a moving average of the encoder. Not reproduced here.
"""

_base_ = './mae_vit-b_800e.py'

model = dict(
    masker=dict(_delete_=True, type='PreferenceMasker', ratio=0.75, preference=0.5),
    guide=dict(type='generated', source=dict(type='ema', momentum=0.999, score='class_token')),
    objectives=dict(generate=dict(type='MaskGeneration', adversarial=0.2, strength=0.5)),
)
