"""The same as mask-rcnn_vit-tiny_sfp_folder.py for one category: hundreds of images teach what many of them show.

Command: python tools/train.py configs/downstream/mmdet/mask-rcnn_vit-tiny_sfp_persons.py \
    --pretrained FILE --data-root DIR [--epochs N]
Images without it are left out of training, and stay in the validation. docs/en/results_transfer.md has what it reached.
"""

_base_ = './mask-rcnn_vit-tiny_sfp_folder.py'

train_dataloader = dict(dataset=dict(metainfo=dict(classes=('person',)), filter_cfg=dict(filter_empty_gt=True)))
optim_wrapper = dict(optimizer=dict(lr=5e-4))
