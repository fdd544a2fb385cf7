"""BEiT: its mask against its own loop, what it starts from, what it says of itself, and a tokenizer that is missing."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.models import BlockMasker, Tokens
from mstkit.models.algorithms.beit import BLOCKS
from mstkit.registry import MODELS
from mstkit.structures import MaskContext, Progress

from .builders import SWIN, VIT, views
from .tokenizers import CODES, Shades, write_kmeans, write_patches


def beits_mask(side: int, goal: int, smallest: int, generator: random.Random) -> list[list[bool]]:
    """BEiT's own loop: rectangles until there are enough, none that would go beyond, and an end without progress."""
    mask = [[False] * side for _ in range(side)]
    count = 0
    while count < goal:
        added = 0
        for _ in range(10):
            area = generator.uniform(smallest, goal - count)
            aspect = math.exp(generator.uniform(math.log(0.3), math.log(1 / 0.3)))
            height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if height >= side or width >= side:
                continue
            top, left = generator.randint(0, side - height), generator.randint(0, side - width)
            cells = [(y, x) for y in range(top, top + height) for x in range(left, left + width) if not mask[y][x]]
            if 0 < len(cells) <= goal - count:
                for y, x in cells:
                    mask[y][x] = True
                added = len(cells)
                break
        if not added:
            break
        count += added
    return mask


def alike(hidden: Tensor) -> Tensor:
    """Share of pairs of neighbors that are hidden or shown together, for masks (B, h, w)."""
    return torch.cat(
        [(hidden[:, 1:] == hidden[:, :-1]).flatten(1), (hidden[:, :, 1:] == hidden[:, :, :-1]).flatten(1)], dim=1
    ).float().mean()  # fmt: skip


def ours(side: int, batch: int) -> Tensor:
    masker = MODELS.build(dict(BLOCKS))
    assert isinstance(masker, BlockMasker) and masker.equal_counts
    masker.set_progress(Progress(0, 10, 5, rank_seed=1))
    return masker(MaskContext(torch.zeros(batch, 3, 16 * side, 16 * side), (side, side)))


def test_the_mask_is_beits():
    """75 of 196 in each image; where BEiT's loop gives up a little early, ours fills up. Cells and shapes are alike."""
    generator = random.Random(0)
    theirs = torch.tensor([beits_mask(14, 75, 16, generator) for _ in range(1500)])
    made = ours(14, 1500)
    assert (made.flatten(1).sum(dim=1) == 75).all()
    counts = theirs.flatten(1).sum(dim=1)
    assert counts.max() == 75 and counts.float().mean() > 72
    share = theirs.float().mean(dim=0), made.float().mean(dim=0)
    assert abs(float(alike(theirs) - alike(made))) < 0.02
    middles = [float(one[4:10, 4:10].mean() / one.mean()) for one in share]
    corners = [float(one[[0, 0, -1, -1], [0, -1, 0, -1]].mean() / one.mean()) for one in share]
    assert middles[1] == pytest.approx(middles[0], rel=0.05) and corners[1] == pytest.approx(corners[0], abs=0.08)


@pytest.mark.parametrize(('side', 'count'), [(8, 24), (16, 98), (7, 18)])
def test_the_mask_of_other_grids(side, count):
    assert (ours(side, 20).flatten(1).sum(dim=1) == count).all()


def test_it_starts_as_its_code_says():
    torch.manual_seed(0)
    backbone = dict(VIT, arch=dict(embed_dims=192, num_layers=2, num_heads=3, feedforward_channels=768))
    model: Any = MODELS.build(dict(type='BEiT', backbone=backbone, tokenizer=Shades()))
    model.init_weights()
    own = dict(model.named_parameters())
    assert 'backbone.pos_embed' not in own and 'backbone.rel_pos_bias.relative_position_bias_table' in own
    assert (own['backbone.layers.0.attn.gamma1.weight'] == 0.1).all()
    head = model.objectives['predict'].decoder.to_values
    assert head.weight.std().item() == pytest.approx(0.02, rel=0.2) and not head.bias.any()
    assert head.weight.shape == (CODES, 192) and head.weight.abs().max() < 2
    assert model.mask_token.std().item() == pytest.approx(0.02, rel=0.2) and model.decayed_parameters == ('mask_token',)
    assert model.teacher is None
    plain: Any = MODELS.build(dict(type='BEiT', backbone=dict(VIT, positions='learned'), tokenizer=Shades()))
    assert plain.backbone.pos_embed is not None, 'what a config says of the backbone counts'
    assert MODELS.build(dict(type='BEiT', backbone=SWIN, tokenizer=Shades())) is not None


def test_its_loss_starts_at_the_entropy_of_the_codes():
    model: Any = MODELS.build(dict(type='BEiT', backbone=VIT, tokenizer=Shades()))
    model.init_weights()
    model.train()
    model.set_progress(Progress(0, 10, 5))
    assert model.loss([views()[0]])['loss_predict'].item() == pytest.approx(math.log(CODES), rel=0.05)


def test_a_run_is_called_by_its_tokens(tmp_path, monkeypatch):
    """One line when the model is built, and its repr; with what the file says of the codes."""
    told: list[str] = []
    place = 'mstkit.models.algorithms.beit.print_log'
    monkeypatch.setattr(place, lambda text, logger: told.append(f'{text} | {logger}'))
    file = str(tmp_path / 'tokens.pth')
    for write, label in ((write_kmeans, 'k-means'), (write_patches, 'raw-patch k-means')):
        write(file)
        model = MODELS.build(dict(type='BEiT', backbone=VIT, tokenizer=file))
        assert told.pop() == f'BEiT with {label} tokens of {file}, {CODES} codes | current'
        assert f'{label} tokens of {file}, codes={CODES}' in repr(model)


def test_a_missing_tokenizer_is_told_with_the_command_that_makes_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = (
        r"BEiT\.tokenizer: there is no file 'work_dirs/tokenizer\.pth'\. Make it with python tools/train_tokenizer\.py "
        r'.*--out FILE, or give another by --cfg-options model\.tokenizer=FILE'
    )
    with pytest.raises(UsageError, match=message):
        MODELS.build(dict(type='BEiT', backbone=VIT))


def test_a_panel_shows_tokens_by_their_examples(tmp_path):
    """Predicted and true tokens as images, where codes have examples; visible patches as they are."""
    write_patches(tmp_path / 'tokens.pth')
    model: Any = MODELS.build(dict(type='BEiT', backbone=VIT, tokenizer=str(tmp_path / 'tokens.pth')))
    model.init_weights()
    model.set_progress(Progress(0, 10, 5))
    panel = model.panel(views()[0])
    assert panel.reconstruction.shape == views()[0].shape
    target = model.objectives['predict'].target
    assert isinstance(target, Tokens)
    shown = ~panel.mask[:, None].repeat_interleave(8, 2).repeat_interleave(8, 3).expand(-1, 3, -1, -1)
    assert torch.equal(panel.reconstruction[shown], views()[0][shown])
    keys = [model.config_key(f'objectives.predict.{part}') for part in ('target.tokenizer', 'decoder')]
    assert keys == ['tokenizer', 'decoder']
