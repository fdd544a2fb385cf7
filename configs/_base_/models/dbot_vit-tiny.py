# dBOT for small sets of small images: the network of MAE's folder config, without stochastic depth.
_base_ = './mae_vit-tiny.py'

model = dict(
    type='DBOT',
    target=dict(type='FrozenFeatures', source='random', norm='layer'),
    loss='smooth_l1',
    beta=2.0,
)
