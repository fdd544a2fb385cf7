"""BEiT, ViT-B/16, 300 epochs of ImageNet-1k, with tokens of model.tokenizer, a file of tools/train_tokenizer.py.

Command: bash tools/dist_train.sh configs/beit/beit_vit-b_300e.py 8 --auto-scale-lr --cfg-options model.tokenizer=FILE
(BEiT's batch is 2048, for example 32 processes x 64 images; --auto-scale-lr fits the lr to any other)
Paper: BEiT (arXiv 2106.08254), fine-tuned 83.2 after 800 epochs; mmpretrain's run of 300: fine-tuned 83.1. Both have
DALL-E's tokens, of which BEiT's code cuts a view of its own, resized with another filter. Not reproduced here.
"""

_base_ = [
    '../_base_/models/beit_vit-b.py',
    '../_base_/datasets/imagenet_one_view.py',
    '../_base_/schedules/beit_300e.py',
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
