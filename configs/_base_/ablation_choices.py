# The named choices of tools/ablate.py: by config key, then by the name that `--vary KEY=NAME,...` takes. A choice
# replaces what the config has at that key as a whole. None switches the part off.

# AttMask's: half of the images of a batch are masked, each by a share of its patches drawn from this range.
share = dict(ratio=(0.1, 0.5), image_prob=0.5)

choices = {
    'model.masker': {
        'none': None,
        'random': dict(type='RandomMasker', **share),
        # As many hidden patches as `mst` has on average: it hides a tenth of the least attended eighth.
        'random-matched': dict(type='RandomMasker', prob=0.10 / 8),
        'block': dict(type='BlockMasker', **share),
        'mst': dict(type='AttentionGuidedMasker', num=8, prob=0.10),
        'attmask-low': dict(type='AttMaskLow', **share),
        'attmask-high': dict(type='AttMaskHigh', **share),
        'attmask-hint': dict(type='AttMaskHint', show_max=0.1, **share),
    },
}
