"""data2vec, ViT-B/16, 800 epochs of ImageNet-1k.

Command: bash tools/dist_train.sh configs/data2vec/data2vec_vit-b_800e.py 8 --auto-scale-lr
(data2vec's batch is 2048, for example 32 processes x 64 images; --auto-scale-lr fits the lr to any other)
Paper: data2vec (arXiv 2202.03555), fine-tuned 84.2. Not reproduced here.
"""

_base_ = [
    '../_base_/models/data2vec_vit-b.py',
    '../_base_/datasets/imagenet_one_view.py',
    '../_base_/schedules/data2vec_800e.py',
]

train_pipeline = [
    dict(type='LoadRGB'),
    dict(
        type='MultiCrop',
        global_crops=dict(size=224, scale=(0.08, 1.0), count=1),
        local_crops=dict(count=0),
        global_recipes=dict(jitter=1.0, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.0, gray=0.0, blur=0.0),
    ),
    dict(type='PackViews'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
