# Muon for the matrices of encoder and decoder, AdamW with MAE's betas and decay for the rest: for small sets and short
# runs (docs/en/results_recipes.md has the search). A tenth of the run is warm-up, a cosine follows.
_base_ = './muon_cosine_folder.py'

optim_wrapper = dict(optimizer=dict(betas=(0.9, 0.95), weight_decay=0.05, matrix_weight_decay=0.05), clip_norm=None)

# No prototypes and no teacher. The batch stays: MAE's steps are cheap, and 64 images have few patches left.
fitted = dict(batch=[], prototypes=[], momentum=[])
