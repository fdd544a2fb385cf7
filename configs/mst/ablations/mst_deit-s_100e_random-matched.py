"""MST, DeiT-S, 100 epochs: a random mask that hides as many patches as the attention-guided one does on average.

No row of the paper. Its table 4 compares masks of the same p, of which the guided one hides num times fewer patches;
here the counts are equal, p / num = 0.10 / 8, so that only the place differs. Not reproduced here.
"""

_base_ = '../mst_deit-s_100e.py'

model = dict(masker=dict(_delete_=True, type='RandomMasker', prob=0.10 / 8))
