"""Keypoints of persons with Swin-T on COCO, 210 epochs: SimpleBaseline's head on Swin's last stage.

Command: bash tools/dist_train.sh configs/downstream/keypoints/keypoints_swin-t_256x192_210e_coco.py 8 \
    --pretrained FILE --data-root DIR
FILE is a Swin-T checkpoint, such as that of configs/mst/mst_swin-t_100e.py. Head and augmentation are those of
SimpleBaseline (arXiv 1804.06208), with three transposed convolutions; as in mmpose's configs for Swin, Adam with 5e-4
at a batch of 256, and drop path 0.2. Boxes are the annotated ones. No row of MST's tables. Not reproduced here.
"""

_base_ = ['../_base_/coco-keypoints_256x192.py', '../_base_/keypoint_runtime.py']

model = dict(
    backbone=dict(type='mstkit.MaskedSwinTransformer', arch='tiny', img_size=(256, 192), drop_path_rate=0.2),
    head=dict(in_channels=768, deconvolutions=3),
)
train_dataloader = dict(batch_size=32)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=5e-4, fused=True))
auto_scale_lr = dict(base_batch_size=256)
