"""Keypoints of persons with ViT-S on COCO, 210 epochs: ViTPose's recipe for its small network.

Command: bash tools/dist_train.sh configs/downstream/keypoints/keypoints_vit-s_256x192_210e_coco.py 8 \
    --pretrained FILE --data-root DIR
FILE is a ViT-S checkpoint, such as that of configs/attmask/attmask-high_vit-s_100e.py. The recipe is that of ViTPose
(arXiv 2204.12484) and of its configs: AdamW, 5e-4 at a batch of 512, decay 0.8 per layer, drop path 0.1, two transposed
convolutions. Boxes are the annotated ones, where the paper's are detected; points are read as in SimpleBaseline. No row
of MST's tables. Not reproduced here.
"""

_base_ = [
    '../_base_/coco-keypoints_256x192.py',
    '../_base_/adamw_layer_decay.py',
    '../_base_/keypoint_runtime.py',
]

model = dict(
    backbone=dict(
        type='mstkit.MaskedVisionTransformer',
        arch='deit-small',
        img_size=(256, 192),
        patch_size=16,
        out_type='featmap',
        drop_path_rate=0.1,
    ),
    head=dict(in_channels=384, deconvolutions=2),
)
optim_wrapper = dict(
    optimizer=dict(lr=5e-4, weight_decay=0.1),
    paramwise_cfg=dict(layer_decay_rate=0.8),
    clip_grad=dict(max_norm=1.0),
)
