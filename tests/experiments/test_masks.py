"""``--masks`` and ``--twins``: which choices they make of which config, and what a random twin hides."""

from __future__ import annotations

import pytest
import torch
from mmengine.registry import DefaultScope

from mstkit.engine.launch.launch import read_config
from mstkit.errors import UsageError
from mstkit.experiments.mask_twins import with_twins
from mstkit.experiments.named_masks import family_of, mask_choices, named_choices
from mstkit.experiments.variations import Choice
from mstkit.models.maskers import build_masker
from mstkit.models.maskers.random_twins import random_twin
from mstkit.registry import MODELS
from mstkit.structures import MaskContext, Progress

from .toy_ablation import ROOT, TABLE, make

IBOT, MAE = (ROOT / 'configs' / path for path in ('ibot/ibot_vit-tiny_folder.py', 'mae/mae_vit-tiny_folder.py'))
PLANNED = ['random', 'block', 'attmask-high', 'attmask-low', 'attmask-hint', 'mst', 'hard-patches']
PLANNED += ['multinomial-most', 'color-noise']


def choices_of(config_file, names=PLANNED):
    config = read_config(config_file)
    family = family_of(config, TABLE)
    return config, family, mask_choices(names, config, family, config_file)


def test_both_methods_take_the_same_names_and_their_papers_branch():
    for file, branch, probe in ((IBOT, 'teacher', 'sweep'), (MAE, 'student', 'mae')):
        _, family, choices = choices_of(file)
        assert [choice.name for choice in choices] == PLANNED
        assert (family.branch, family.probe) == (branch, probe)
        assert [choice.folder for choice in choices] == PLANNED


@pytest.mark.parametrize('file', [IBOT, MAE])
def test_every_mask_of_a_family_makes_a_model(file):
    config, family, _ = choices_of(file, [])
    with DefaultScope.overwrite_default_scope('mstkit'):
        for choice in with_twins(named_choices(family), [], config, random_twin)[0]:
            changed = choice.applied_to(config)
            changed.model.backbone.arch.update(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=24)
            model = MODELS.build(changed.model)
            model.check_views(64)


def test_twins_hide_as_many_and_are_shared():
    config, family, choices = choices_of(MAE, [*PLANNED, 'amt'])
    planned, twins = with_twins(choices, named_choices(family), config, random_twin)
    same = dict.fromkeys(['block', 'attmask-high', 'attmask-low', 'multinomial-most', 'color-noise'], 'random')
    others = {'attmask-hint': 'attmask-hint~random', 'mst': 'mst~random'}
    assert twins == {**same, **others, 'hard-patches': 'random-ranked', 'amt': 'amt-random'}
    added = [choice.name for choice in planned[len(choices) :]]
    assert added == ['attmask-hint~random', 'mst~random', 'random-ranked', 'amt-random']
    config, family, choices = choices_of(IBOT)
    _, twins = with_twins(choices, named_choices(family), config, random_twin)
    assert twins == {**same, **others, 'hard-patches': 'random-ranked'}


def test_a_twin_keeps_what_the_choice_sets_besides():
    config, _, choices = choices_of(MAE, ['hard-patches'])
    (_, twin), _ = with_twins(choices, [], config, random_twin)
    assert twin.name == 'hard-patches~random' and twin.folder == 'hard-patches~random'
    ((key, value),) = twin.values.items()
    ((_, hard),) = choices[0].values.items()
    assert value == {**hard, 'masker': dict(type='RandomMasker', ratio=0.75), 'guide': 'teacher'}
    assert key == 'model.masker+guide+objectives+teacher'


def counts(masker, images=2000):
    """Hidden patches of each image, over batches."""
    built = build_masker(dict(masker))
    assert built is not None
    generator = torch.Generator().manual_seed(1)
    found = []
    for step in range(images // 20):
        scores = torch.rand(20, 2, 64, generator=generator)
        context = MaskContext(torch.zeros(20, 3, 1, 1), (8, 8), torch.rand(20, 64, 4, generator=generator), scores)
        built.set_progress(Progress(step, 1000, 100, 7, step))
        found.append(built(context).flatten(1).sum(1))
    return torch.cat(found).double()


@pytest.mark.parametrize('family', ['self-distillation', 'reconstruction'])
def test_the_counts_of_masks_and_twins_agree(family):
    masks = read_config(TABLE)['families'][family]['masks'].to_dict()
    compared = 0
    for name, values in masks.items():
        if isinstance(values, str):
            continue
        ((key, value),) = values.items()
        masker = value['masker'] if '+' in key else value
        twin = random_twin(masker)
        if twin is None:
            continue
        compared += 1
        own, others = counts(masker), counts(twin)
        error = 4 * float((own.var() / 100 + others.var() / 100).sqrt())  # AttMask draws 100 ratios
        assert abs(float(own.mean() - others.mean())) <= error + 1e-9, name
        assert float(own.std()) == pytest.approx(float(others.std()), rel=0.2, abs=1e-9), name
        assert twin['type'] != 'ShuffledMasker' or name in ('attmask-hint', 'mst', 'multi-block', 'uniform')
    assert compared >= 10


@pytest.mark.parametrize(
    'masker', [None, dict(type='RandomMasker', ratio=0.3), dict(type='ThrowingMasker', order='random')]
)
def test_random_masks_have_no_twin(masker):
    assert random_twin(masker) is None


def test_twins_of_a_vary_and_of_nothing(tmp_path):
    plan = make(
        tmp_path, 'model.masker=none,random,block,mst', 'optim_wrapper.optimizer.lr=0.1', random_twin=random_twin
    )
    assert plan.twins == {'block, lr=0.1': 'random, lr=0.1', 'mst, lr=0.1': 'mst, lr=0.1~random'}
    with pytest.raises(UsageError, match='--twins: no choice has a mask'):
        make(tmp_path, 'optim_wrapper.optimizer.lr=0.1,0.2', random_twin=random_twin)


@pytest.mark.parametrize(
    ('file', 'names', 'says'),
    [
        (IBOT, ['amt'], 'IBOT of .*ibot_vit-tiny_folder.py cannot take it: AMT throws patches'),
        (MAE, ['none'], 'MAE of .* cannot take it: without hidden patches'),
        (MAE, ['blok'], "there is no mask 'blok'. Did you mean block"),
        (MAE, ['mst', 'mst'], 'mst is named twice'),
        (ROOT / 'configs' / 'msn' / 'msn_vit-tiny_folder.py', ['mst'], 'trains MSN, whose masks have no common names'),
    ],
)
def test_what_a_method_cannot_take_is_refused_in_a_sentence(file, names, says):
    with pytest.raises(UsageError, match=says):
        choices_of(file, names)


def test_finished_cells_of_a_vary_are_those_of_masks(tmp_path):
    """The same folder, config and fingerprint, whichever way a mask is named."""
    by_key = make(tmp_path, 'model.masker=mst,block')
    by_name = make(tmp_path, masks=['mst', 'block'])
    for one, other in zip(by_key.cells, by_name.cells, strict=True):
        assert (one.folder, one.fingerprint, one.arguments) == (other.folder, other.fingerprint, other.arguments)


def test_a_name_of_a_twin_is_a_folder():
    assert Choice('mst~random', {}, {}).folder == 'mst~random'
