# A folder of the reader's own images at 64 px for masked image modeling: one view, cropped and flipped, nothing else.
_base_ = './folder_multicrop.py'

train_pipeline = [
    dict(type='LoadRGB'),
    dict(
        type='MultiCrop',
        global_crops=dict(size=64, scale=(0.2, 1.0), count=1),
        local_crops=dict(count=0),
        global_recipes=dict(jitter=0.0, gray=0.0, blur=0.0),
    ),
    dict(type='PackViews'),
]
train_dataloader = dict(batch_size=64, dataset=dict(pipeline=train_pipeline))
