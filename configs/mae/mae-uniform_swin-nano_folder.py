"""MAE with a small Swin that encodes visible patches alone (UM-MAE), on your own folder of images.

Command: python tools/train.py configs/mae/mae-uniform_swin-nano_folder.py --data-root DIR [--epochs N]
k-NN says little of MAE's features, which want a linear probe or fine-tuning. No row of a paper.
configs/mst/mst_vit-tiny_folder.py says what DIR holds. Not reproduced here.
"""

_base_ = './mae_vit-tiny_folder.py'

# Three stages, so that the last one has patches of 8 px as the small ViT has, and as many channels.
model = dict(
    backbone=dict(
        _delete_=True,
        type='MaskedSwinTransformer',
        arch=dict(embed_dims=48, depths=[2, 2, 4], num_heads=[2, 4, 8]),
        img_size=64,
        patch_size=2,
        window_size=4,
        out_indices=(2,),
        drop_path_rate=0.0,
    ),
    masker=dict(_delete_=True, type='UniformMasker', secondary=0.25),
)
