"""MAE with hard patches mining (HPM) on your own folder of images, hundreds to tens of thousands of them.

Command: python tools/train.py configs/mae/mae-hpm_vit-tiny_folder.py --data-root DIR [--epochs N]
k-NN says little of MAE's features, which want a linear probe or fine-tuning. No row of a paper.
configs/mst/mst_vit-tiny_folder.py says what DIR holds. Not reproduced here.
"""

_base_ = './mae_vit-tiny_folder.py'

# An average over some hundred steps, since small sets have few.
model = dict(
    masker=dict(_delete_=True, type='TopShareMasker', ratio=0.75, start=0.0, end=0.5),
    guide='predicted_loss',
    teacher=dict(momentum=0.99, end_momentum=0.999),
    objectives=dict(
        rank=dict(type='LossPrediction', decoder=dict(embed_dims=96, num_layers=2, num_heads=3)),
    ),
)
