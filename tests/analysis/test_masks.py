from __future__ import annotations

import math
from collections import deque

import pytest
import torch

from mstkit.analysis import (
    attention_mass_hidden,
    border,
    connectedness,
    csv_table,
    hidden_fraction,
    label_components,
    markdown_table,
    summarize,
    top_attention_hidden,
)


def drawn(*images: str) -> torch.Tensor:
    """Masks from drawings: rows separated by spaces, # is hidden."""
    return torch.tensor([[[cell == '#' for cell in row] for row in one.split()] for one in images])


def flood(mask: torch.Tensor) -> list[int]:
    """Sizes of the components of one mask, the slow way."""
    left, sizes = {tuple(place) for place in mask.nonzero().tolist()}, []
    while left:
        queue, size = deque([left.pop()]), 0
        while queue:
            row, column = queue.popleft()
            size += 1
            for place in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                if place in left:
                    left.remove(place)
                    queue.append(place)
        sizes.append(size)
    return sorted(sizes)


IMPORTANCE = torch.arange(1.0, 13).view(1, 3, 4)  # 1..12, sum 78


def test_hidden_fraction():
    assert hidden_fraction(drawn('.... .... ....', '#... .... ...#', '#### #### ####')).tolist() == pytest.approx(
        [0, 1 / 6, 1]
    )


def test_attention_mass():
    masks = drawn('.... .... ....', '#... .... ...#', '#### #### ####')
    found = attention_mass_hidden(masks, IMPORTANCE.expand(3, -1, -1))
    assert found.tolist() == pytest.approx([0, 13 / 78, 1])
    # Each image counts by its own sum: the unit does not matter.
    assert torch.allclose(attention_mass_hidden(masks, 1e-6 * IMPORTANCE.expand(3, -1, -1)), found)
    assert attention_mass_hidden(masks, torch.zeros(3, 3, 4)).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ('share', 'expected'),
    [(0.01, 1), (0.1, 1), (2 / 12, 0.5), (0.25, 1 / 3), (0.5, 1 / 3), (1.0, 1 / 4)],
)
def test_top_attention(share, expected):
    """The three hidden patches are the 1st, 5th and 12th in importance from the top: 12, 8 and 1."""
    mask = drawn('#... ...# ...#')
    assert top_attention_hidden(mask, IMPORTANCE, share).item() == pytest.approx(expected)


def test_top_attention_takes_the_first_of_equals_and_refuses_no_share():
    mask = drawn('#... .... ....')
    assert top_attention_hidden(mask, torch.ones(1, 3, 4)).item() == 1
    for share in (0, -0.1, 1.1):
        with pytest.raises(ValueError, match='share'):
            top_attention_hidden(mask, IMPORTANCE, share)


@pytest.mark.parametrize(
    ('mask', 'sizes'),
    [
        ('.... .... ....', []),
        ('.... .#.. ....', [1]),
        ('#### #### ####', [12]),
        ('##.. ..## ..##', [2, 4]),  # corners do not connect
        ('#.#. .#.# #.#.', [1] * 6),
        ('#..# .... #..#', [1] * 4),  # neither do opposite borders
        ('##### ....# ###.# #...# #####', [16]),  # a spiral: the longest way
    ],
)
def test_connectedness_of_drawn_masks(mask, sizes):
    masks = drawn(mask)
    found = connectedness(masks)
    assert found.components.tolist() == [len(sizes)]
    if sizes:
        assert found.cohesion.item() == pytest.approx(sum(size**2 for size in sizes) / sum(sizes) ** 2)
    else:
        assert math.isnan(found.cohesion.item())


@pytest.mark.parametrize(
    ('mask', 'expected'),
    [
        ('.... .... ....', 0),
        ('#### #### ####', 0),
        ('#... .... ....', 2 / 17),  # a corner: the rim does not count
        ('.... .#.. ....', 4 / 17),
        ('##.. ##.. ....', 4 / 17),
        ('#.#. .#.# #.#.', 1),
        ('.#', 1),
    ],
)
def test_border_of_drawn_masks(mask, expected):
    assert border(drawn(mask)).item() == pytest.approx(expected)


def test_border_of_random_masks():
    masks = torch.rand(400, 12, 10, generator=torch.Generator().manual_seed(0)) < 0.3
    assert border(masks).mean().item() == pytest.approx(2 * 0.3 * 0.7, rel=0.02)
    by_hand = sum(
        int(masks[0, y, x]) != int(masks[0, y + dy, x + dx])
        for y in range(12)
        for x in range(10)
        for dy, dx in ((0, 1), (1, 0))
        if y + dy < 12 and x + dx < 10
    )
    assert border(masks)[0].item() == pytest.approx(by_hand / (11 * 10 + 12 * 9))


def test_labels_agree_with_a_flood_fill():
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(40, 9, 13, generator=generator) < torch.linspace(0.05, 0.95, 40)[:, None, None]
    labels = label_components(masks)
    assert torch.equal(labels > 0, masks)
    for mask, label in zip(masks, labels, strict=True):
        counted = torch.unique(label[label > 0], return_counts=True)[1]
        assert sorted(counted.tolist()) == flood(mask)


def test_summary_leaves_whole_images_out_of_all_but_their_share():
    masks = drawn('.... .... ....', '##.. ..#. ....', '.... .... ####', '.... .... ....')
    row = summarize(masks, IMPORTANCE.expand(4, -1, -1), share=0.25)
    assert (row.masks, row.whole) == (4, 0.5)
    assert row.hidden_overall == pytest.approx(7 / 48)
    assert row.hidden == pytest.approx((3 + 4) / 24)
    assert row.attention_mass == pytest.approx((10 + 42) / 2 / 78)
    assert row.top_attention == pytest.approx((0 + 1) / 2)
    assert row.cohesion == pytest.approx(((4 + 1) / 9 + 1) / 2)
    assert row.components == pytest.approx(1.5)
    assert row.border == pytest.approx((7 / 17 + 4 / 17) / 2)  # 7 of the pair and the single patch, 4 of the row


def test_summary_where_nothing_is_ever_hidden():
    row = summarize(drawn('.. ..', '.. ..'), torch.ones(2, 2, 2))
    assert row[:3] == (2, 1.0, 0.0)
    assert all(math.isnan(value) for value in row[3:-1]) and row.thrown == 0


def test_wrong_shapes_are_refused():
    mask = drawn('.. ..')
    with pytest.raises(ValueError, match='bool'):
        hidden_fraction(mask.float())
    with pytest.raises(ValueError, match=r'\(B, h, w\)'):
        connectedness(mask[0])
    with pytest.raises(ValueError, match='importance'):
        attention_mass_hidden(mask, torch.ones(1, 4))
    with pytest.raises(ValueError, match='no masks'):
        summarize(mask[:0], torch.ones(0, 2, 2))


def test_tables():
    rows = {
        'some': summarize(drawn('#.. ...', '... ...'), torch.ones(2, 2, 3)),
        'none': summarize(drawn('... ...'), torch.ones(1, 2, 3)),
    }
    table = [[cell.strip() for cell in line.strip('|').split('|')] for line in markdown_table(rows).splitlines()]
    assert table[0][:4] == ['strategy', 'left whole', 'hidden, all images', 'hidden']
    assert table[2] == ['some', '50.0', '8.3', '16.7', '16.7', '100.0', '100', '1.0', '28.6']
    assert table[3] == ['none', '100.0', '0.0', *'––––––']
    lines = [line.split(',') for line in csv_table(rows).splitlines()]
    assert lines[0] == ['strategy', *rows['some']._fields]
    assert [float(value) for value in lines[1][1:]] == list(rows['some'])
    assert lines[2] == ['none', '1', '1.0', '0.0', '', '', '', '', '', '', '0.0']
    rows['some'] = rows['some']._replace(thrown=0.4)
    with_thrown = markdown_table(rows).splitlines()
    assert with_thrown[0].endswith('| thrown |') and with_thrown[2].endswith('| 40.0 |')
