# dBOT with ViT-B/16 (arXiv 2209.03917): MAE with a stochastic depth of .2, on the layer-normalized output of the last
# block of a frozen teacher. 'random' is the first stage; of the next ones the checkpoint of the stage before.
_base_ = './mae_vit-b.py'

model = dict(
    type='DBOT',
    backbone=dict(drop_path_rate=0.2),
    target=dict(type='FrozenFeatures', source='random', norm='layer'),
    loss='smooth_l1',
    beta=2.0,
)
