# The named choices of tools/ablate.py: by config key, then by the name that `--vary KEY=NAME,...` takes. A choice
# replaces what the config has at that key as a whole. `random` hides as many patches as every masker with a share, so
# it is what they are compared with. None switches the part off. With `KEY+NAME` a choice sets several
# keys of one part at once: a dict by their names.

# AttMask's: half of the images of a batch are masked, each by a share of its patches drawn from this range.
share = dict(ratio=(0.1, 0.5), image_prob=0.5)

# MILAN's draws: the visible patches in proportion to the attention.
milan = dict(direction='least', drawn='visible')

# What masks are compared with in MAE and SimMIM, which hide more: one share in every image. MST's mask keeps its own,
# 1.25 %. A masker and its guide change together. Kept scores are two epochs old at most: comparisons are short runs.
most = dict(ratio=0.75, image_prob=1.0)
kept = dict(type='CachedGuide', every=2)

# HPM's predictor of losses, as large as the decoders of the configs for folders.
ranked = dict(rank=dict(type='LossPrediction', decoder=dict(embed_dims=96, num_layers=2, num_heads=3)))
# AutoMAE's generator of masks.
generating = dict(generate=dict(type='MaskGeneration'))
# CL-MAE's masking network, as small as that of its config for folders.
learning = dict(hide=dict(type='CurriculumMasking', network=dict(num_layers=2)))
# AMT's: some of the patches that are not hidden are thrown. For methods that encode the visible patches alone (MAE).
thrown = dict(type='ThrowingMasker', ratio=0.45, throw=0.40)

choices = {
    'model.masker+guide': {
        'random': dict(masker=dict(type='RandomMasker', ratio=0.75, rounding='up'), guide='teacher'),
        'block': dict(masker=dict(type='BlockMasker', **most), guide='teacher'),
        'inverse-block': dict(masker=dict(type='InverseBlockMasker', **most), guide='teacher'),
        'inverse-multi-block': dict(masker=dict(type='InverseMultiBlockMasker', **most), guide='teacher'),
        'multi-block': dict(masker=dict(type='MultiBlockMasker'), guide='teacher'),
        # As many hidden patches as `multi-block` has on average: 52.9 % of 8x8 patches, 53.9 % of 14x14.
        'random-multi-block': dict(masker=dict(type='RandomMasker', ratio=0.53), guide='teacher'),
        'uniform': dict(masker=dict(type='UniformMasker'), guide='teacher'),
        # As many hidden patches as `uniform` has: three quarters and a quarter of the rest.
        'random-uniform': dict(masker=dict(type='RandomMasker', ratio=0.8125, rounding='up'), guide='teacher'),
        'color-green': dict(masker=dict(type='ColorNoiseMasker', color='green', **most), guide='teacher'),
        'attmask-high-ema': dict(masker=dict(type='AttMaskHigh', **most), guide='ema'),
        'attmask-high-cached': dict(masker=dict(type='AttMaskHigh', **most), guide=kept),
        'multinomial-most-ema': dict(masker=dict(type='MultinomialMasker', **most), guide='ema'),
        'multinomial-least-ema': dict(masker=dict(type='MultinomialMasker', **milan, **most), guide='ema'),
        'parts-ema': dict(masker=dict(type='PartMasker', **most), guide='ema'),
        'object-ema': dict(masker=dict(type='ObjectMasker', **most), guide='ema'),
        'amt': dict(masker=dict(**thrown), guide=kept),
        'amt-random': dict(masker=dict(order='random', **thrown), guide='teacher'),
        'mst-ema': dict(masker=dict(type='AttentionGuidedMasker', num=8, prob=0.10), guide='ema'),
    },
    # HPM, beside its masks alone being random and beside MAE; CL-MAE's masks.
    'model.masker+guide+objectives': {
        'random': dict(masker=dict(type='RandomMasker', ratio=0.75, rounding='up'), guide='teacher', objectives={}),
        'random-ranked': dict(
            masker=dict(type='RandomMasker', ratio=0.75, rounding='up'), guide='teacher', objectives=ranked
        ),
        'hard-patches': dict(masker=dict(type='TopShareMasker', **most), guide='predicted_loss', objectives=ranked),
        'easy-patches': dict(
            masker=dict(type='TopShareMasker', direction='least', **most), guide='predicted_loss', objectives=ranked
        ),
        # AutoMAE, whose random twin is `random`.
        'generated': dict(masker=dict(type='PreferenceMasker', **most), guide='generated', objectives=generating),
        'learned': dict(masker=dict(type='AttMaskHigh', **most), guide='learned', objectives=learning),
    },
    'model.masker': {
        'none': None,
        'random': dict(type='RandomMasker', **share),
        # As many hidden patches as `mst` has on average: it hides a tenth of the least attended eighth.
        'random-matched': dict(type='RandomMasker', prob=0.10 / 8),
        'block': dict(type='BlockMasker', **share),
        'inverse-block': dict(type='InverseBlockMasker', **share),
        'inverse-multi-block': dict(type='InverseMultiBlockMasker', **share),
        'multi-block': dict(type='MultiBlockMasker', image_prob=0.5),
        'uniform': dict(type='UniformMasker', image_prob=0.5),
        'color-green': dict(type='ColorNoiseMasker', color='green', **share),
        'color-blue': dict(type='ColorNoiseMasker', color='blue', **share),
        'color-red': dict(type='ColorNoiseMasker', color='red', **share),
        'color-purple': dict(type='ColorNoiseMasker', color='purple', **share),
        'mst': dict(type='AttentionGuidedMasker', num=8, prob=0.10),
        'attmask-low': dict(type='AttMaskLow', **share),
        'attmask-high': dict(type='AttMaskHigh', **share),
        'attmask-hint': dict(type='AttMaskHint', show_max=0.1, **share),
        'multinomial-most': dict(type='MultinomialMasker', **share),
        'multinomial-least': dict(type='MultinomialMasker', **milan, **share),
        'top-share': dict(type='TopShareMasker', **share),
        'preference': dict(type='PreferenceMasker', **share),
        'parts': dict(type='PartMasker', **share),
        'object': dict(type='ObjectMasker', **share),
        'throwing': dict(**thrown),
    },
}

# What --masks takes: names that mean the same mask in every method, and what a method of each family sets for it. A
# sentence in place of that says why the family cannot take the mask. `types` are the methods of a family, `branch` is
# what the papers of the family measure, `probe` its preset of the linear probe.
same = choices['model.masker']
visible = choices['model.masker+guide']
# HPM's teacher, as in its config for folders.
average = dict(teacher=dict(momentum=0.99, end_momentum=0.999))
no_guide = dict(guide='teacher')
exact = dict(type='RandomMasker', ratio=0.75, rounding='up')
unguided = ('random', 'block', 'inverse-block', 'inverse-multi-block', 'multi-block', 'uniform')

families = {
    'self-distillation': dict(
        types=('DINO', 'IBOT', 'MSTAlgorithm'),
        branch='teacher',
        probe='sweep',
        masks={
            **{
                name: {'model.masker': same[name]}
                for name in (
                    *unguided,
                    'attmask-high',
                    'attmask-low',
                    'attmask-hint',
                    'mst',
                    'multinomial-most',
                    'multinomial-least',
                    'parts',
                    'object',
                )
            },
            'color-noise': {'model.masker': same['color-green']},
            'hard-patches': {
                'model.masker+guide+objectives': dict(
                    masker=dict(type='TopShareMasker', **share), guide='predicted_loss', objectives=ranked
                )
            },
            'random-ranked': {
                'model.masker+guide+objectives': dict(masker=same['random'], guide='teacher', objectives=ranked)
            },
            'none': 'iBOT has a loss on hidden patches alone; for DINO and MST take --vary model.masker=none,...',
            'amt': 'AMT throws patches, which only an encoder of visible patches can leave out',
            'amt-random': 'it throws patches, which only an encoder of visible patches can leave out',
        },
    ),
    'reconstruction': dict(
        types=('MAE', 'SimMIM', 'MaskFeat', 'BEiT', 'LocalMIM'),
        branch='student',
        probe='mae',
        masks={
            **{
                name: {'model.masker+guide': visible[name]}
                for name in (
                    *unguided,
                    'amt',
                    'amt-random',
                )
            },
            'color-noise': {'model.masker+guide': visible['color-green']},
            'attmask-high': {'model.masker+guide': visible['attmask-high-ema']},
            'attmask-low': {'model.masker+guide': dict(masker=dict(type='AttMaskLow', **most), guide='ema')},
            'attmask-hint': {
                'model.masker+guide': dict(masker=dict(type='AttMaskHint', show_max=0.1, **most), guide='ema')
            },
            'mst': {'model.masker+guide': visible['mst-ema']},
            'multinomial-most': {'model.masker+guide': visible['multinomial-most-ema']},
            'multinomial-least': {'model.masker+guide': visible['multinomial-least-ema']},
            'parts': {'model.masker+guide': visible['parts-ema']},
            'object': {'model.masker+guide': visible['object-ema']},
            'hard-patches': {
                'model.masker+guide+objectives+teacher': dict(
                    masker=dict(type='TopShareMasker', **most), guide='predicted_loss', objectives=ranked, **average
                )
            },
            'random-ranked': {
                'model.masker+guide+objectives+teacher': dict(masker=exact, objectives=ranked, **no_guide, **average)
            },
            'none': 'without hidden patches there is nothing to predict',
        },
    ),
}
