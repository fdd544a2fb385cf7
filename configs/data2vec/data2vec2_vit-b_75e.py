"""data2vec 2.0, ViT-B/16, 75 epochs of ImageNet-1k, 16 masks of each image.

Command: bash tools/dist_train.sh configs/data2vec/data2vec2_vit-b_75e.py 16
(data2vec 2.0's batch is 256 images, 16 processes x 16; --auto-scale-lr fits the lr to any other)
Paper: data2vec 2.0 (arXiv 2212.07525), whose abstract has ViT-L alone: fine-tuned 86.8 after 150 epochs.
Not reproduced here.
"""

_base_ = [
    '../_base_/models/data2vec2_vit-b.py',
    '../_base_/datasets/imagenet_one_view.py',
    '../_base_/schedules/data2vec2_75e.py',
]

train_dataloader = dict(batch_size=16)
