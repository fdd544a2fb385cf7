from __future__ import annotations

import pytest

from mstkit.errors import UsageError
from mstkit.models import AttentionGuidedMasker, RandomMasker
from mstkit.models.maskers.masker_choice import choose_maskers

NAMED = {
    'none': None,
    'random': dict(type='RandomMasker', ratio=(0.1, 0.5)),
    'mst': dict(type='AttentionGuidedMasker', num=8, prob=0.10),
}
OTHER = dict(type='AttentionGuidedMasker', num=4)


def test_all_names_without_the_one_that_hides_nothing():
    for own in (None, 'none'):
        maskers, same = choose_maskers(NAMED, own)
        assert (list(maskers), same) == (['random', 'mst'], None)
    assert isinstance(maskers['mst'], AttentionGuidedMasker)


def test_the_own_masker_comes_first():
    maskers, same = choose_maskers(NAMED, OTHER)
    assert (list(maskers), same) == (['config', 'random', 'mst'], None)
    assert maskers['config'].num == 4


@pytest.mark.parametrize(
    'own',
    [
        dict(type='AttentionGuidedMasker', num=8, prob=0.10),
        dict(type='AttentionGuidedMasker'),  # its defaults
        dict(type='mstkit.AttentionGuidedMasker', prob=0.10, layer=-1, _scope_='mstkit'),
    ],
)
def test_the_own_masker_is_recognized_among_the_named(own):
    maskers, same = choose_maskers(NAMED, own)
    assert (list(maskers), same) == (['random', 'mst'], 'mst')


def test_some_by_name():
    maskers, same = choose_maskers(NAMED, OTHER, 'random, config,random')
    assert (list(maskers), same) == (['random', 'config'], None)
    assert isinstance(maskers['random'], RandomMasker)
    assert choose_maskers(NAMED, NAMED['mst'], 'config,mst')[1] == 'mst'


def test_mistakes():
    with pytest.raises(UsageError, match=r"no strategy 'randon'. Did you mean random\?"):
        choose_maskers(NAMED, OTHER, 'mst,randon')
    with pytest.raises(UsageError, match='The strategies are random, mst'):
        choose_maskers(NAMED, None, 'config')
    for nothing in ('none', ''):
        with pytest.raises(UsageError, match='no strategy'):
            choose_maskers(NAMED, OTHER, nothing)
