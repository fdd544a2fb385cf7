# iBOT on ViT-S/16 at 224 px (arXiv 2111.07832), as its published command lines train it: one head for pooled features
# and patches, 8192 prototypes, both teachers' temperatures from 0.04 to 0.07 over 30 epochs.
_base_ = './dino_vit-s.py'

model = dict(
    type='IBOT',
    neck=dict(out_dim=8192),
    head=dict(warmup_teacher_temp=0.04, teacher_temp=0.07, warmup_teacher_temp_epochs=30),
    patch_head=dict(
        type='IBOTHead',
        student_temp=0.1,
        warmup_teacher_temp=0.04,
        teacher_temp=0.07,
        warmup_teacher_temp_epochs=30,
        center_momentum=0.9,
    ),
    # Half of the crops are masked, each by its own share between 10 and 50 %.
    masker=dict(type='BlockMasker', ratio=(0.1, 0.5), image_prob=0.5),
)
