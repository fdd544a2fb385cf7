"""The same as setr_pup_vit-tiny_folder.py for images and label maps in Cityscapes' layout and with its 19 classes.

Command: python tools/train.py configs/downstream/mmseg/setr_pup_vit-tiny_cityscapes-folder.py \
    --pretrained FILE --data-root DIR
DIR has leftImg8bit/{train,val} and gtFine/{train,val}. docs/en/results_transfer.md has what it reached.
"""

_base_ = './setr_pup_vit-tiny_folder.py'

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mstkit.CityscapesFolder',
        data_root='data/cityscapes/',
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
        pipeline={{_base_.train_pipeline}},
    )
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mstkit.CityscapesFolder',
        data_root='data/cityscapes/',
        data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
        test_mode=True,
        pipeline={{_base_.test_pipeline}},
    )
)
test_dataloader = val_dataloader
