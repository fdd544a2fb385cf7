from __future__ import annotations

import pytest
import torch

from mstkit.errors import UsageError
from mstkit.evaluation.protocols.linear_head import FEATURES, LinearHead, check_features, head_path, load_head

from .frozen import BrightNetwork


@pytest.fixture
def head() -> LinearHead:
    torch.manual_seed(0)
    return LinearHead(torch.randn(3, 12), torch.randn(3), ('a', 'b', 'c'), 'last4', 'f' * 64, 'bright')


def test_written_and_read_again(head: LinearHead, tmp_path) -> None:
    head.save(tmp_path / 'new' / 'linear_head.pth')
    plain = torch.load(tmp_path / 'new' / 'linear_head.pth', weights_only=True)
    assert set(plain) == {'weight', 'bias', 'classes', 'features', 'fingerprint', 'network'}
    again = load_head(tmp_path / 'new' / 'linear_head.pth')
    assert torch.equal(again.weight, head.weight) and torch.equal(again.bias, head.bias)
    assert again[2:] == head[2:]


def test_a_head_cut_out_of_many_does_not_take_them_along(tmp_path) -> None:
    many = torch.zeros(500, 3, 12)
    LinearHead(many[7], torch.zeros(3), ('a', 'b', 'c'), 'last4', 'f', 'n').save(tmp_path / 'head.pth')
    assert (tmp_path / 'head.pth').stat().st_size < 10_000


@pytest.mark.parametrize(('name', 'size'), [('last', 3), ('last_mean', 6), ('last4', 12), ('last4_mean', 15)])
def test_prediction_takes_the_features_that_the_head_was_trained_on(name: str, size: int) -> None:
    torch.manual_seed(1)
    network, images = BrightNetwork(), torch.randn(9, 3, 32, 32)
    head = LinearHead(torch.randn(5, size), torch.randn(5), tuple('abcde'), name, 'f', 'n')
    expected = torch.nn.functional.linear(network.features(images, *FEATURES[name]), head.weight, head.bias)
    assert torch.equal(head.predict(network, images), expected.argmax(dim=1))


def test_other_networks_and_classes_are_refused(head: LinearHead) -> None:
    head.check(BrightNetwork(), ('a', 'b', 'c'))
    with pytest.raises(UsageError, match=r'trained on bright \(fingerprint ffff.*network is other \(0000'):
        head.check(BrightNetwork('other', fingerprint='0' * 64))
    with pytest.raises(UsageError, match=r'is bright \(0000.*a version that computes other features\)'):
        head.check(BrightNetwork(fingerprint='0' * 64))
    for classes, says in (
        (('a', 'b'), "knows 3 classes and the images have 2 .*'c'"),
        (('a', 'b', 'd'), "such as 'd'"),
        (('c', 'b', 'a'), 'another order'),
    ):
        with pytest.raises(UsageError, match=says):
            head.check(BrightNetwork(), classes)


def test_files_that_are_no_heads(head: LinearHead, tmp_path) -> None:
    path = tmp_path / 'head.pth'
    with pytest.raises(UsageError, match='does not exist'):
        load_head(path)
    path.write_bytes(b'not a zip')
    with pytest.raises(UsageError, match='cannot be read'):
        load_head(path)
    torch.save({'state_dict': {}, 'meta': {}}, path)
    with pytest.raises(UsageError, match=r"no linear head \(found keys \['meta', 'state_dict'\]"):
        load_head(path)
    torch.save([1], path)
    with pytest.raises(UsageError, match='no linear head'):
        load_head(path)
    head._replace(classes=('a', 'b')).save(path)
    with pytest.raises(UsageError, match='names 2 classes'):
        load_head(path)
    head._replace(features='last3').save(path)
    with pytest.raises(UsageError, match='Did you mean last'):
        load_head(path)
    with pytest.raises(UsageError, match='last4_mean'):
        check_features('first')


def test_the_name_of_a_network_in_a_file_name() -> None:
    network = BrightNetwork('timm:vit/small (teacher)')
    assert str(head_path('heads/{network}.pth', network)) == 'heads/timm_vit_small_teacher.pth'
    assert str(head_path('head.pth', network)) == 'head.pth'
