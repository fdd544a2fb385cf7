# A folder of the reader's own images at 64 px in many small crops, which small sets and short runs learn most from.
_base_ = './folder_multicrop.py'

# Weak colors and no blur: features come much sooner with them than with DINO's recipe.
recipe = dict(brightness=0.3, contrast=0.3, saturation=0.1, hue=0.03, gray=0.05, blur=0.0)

train_pipeline = [
    dict(type='LoadRGB'),
    dict(
        type='MultiCrop',
        global_crops=dict(size=64, scale=(0.5, 1.0)),
        local_crops=dict(size=32, scale=(0.2, 0.4), count=4),
        global_recipes=recipe,
        local_recipe=recipe,
    ),
    dict(type='PackViews'),
]
train_dataloader = dict(batch_size=64, dataset=dict(pipeline=train_pipeline))
