"""The file format of tokenizers: plain data and tensors, complete for tokenizing images."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.utils.files import write_atomically
from mstkit.utils.home_folder import expanded

FORMAT = 'mstkit tokenizer 1'
# How to have one, for messages.
HOW = 'python tools/train_tokenizer.py --data-root DIR --network raw --codes 512 --out'
DALLE_KEY = 'blocks.input.w'  # the first convolution of DALL-E's encoder
PICKLED = (
    'If it is encoder.pkl as OpenAI gave it out, it is a pickled module, and to open that is to run what is in it. '
    'Where you trust it and have its package dall_e, save its weights alone once: torch.save(torch.load("encoder.pkl", '
    'weights_only=False).state_dict(), "dalle_encoder.pth"), and give that file.'
)


class TokenizerFile(NamedTuple):
    """What is in the file of a tokenizer.

    Attributes:
        kind: the name of its class in the registry.
        settings: arguments of the feature extractor, including the config of its network if it has one.
        features: state dict of the feature extractor.
        centers: (K, D) float32, the L2-normalized codebook.
        examples: (K, 3, s, s) uint8, for each code the training patch most similar to it; None if there are none.
        about: how the tokenizer was trained: images, network, usage, perplexity.
    """

    kind: str
    settings: dict[str, Any]
    features: dict[str, Tensor]
    centers: Tensor
    examples: Tensor | None
    about: dict[str, Any]


def read_tokenizer(path: str | os.PathLike[str]) -> TokenizerFile:
    """Reads a tokenizer file onto the CPU, as data only: no code in it is executed.

    Args:
        path: a file that tools/train_tokenizer.py wrote, or a state dict of DALL-E's encoder, whose tensors are then
            ``features``.

    Raises:
        UsageError: there is no such file, it is damaged, holds more than plain data, or is none of a tokenizer.
    """
    content = _read(path)
    if isinstance(content, Mapping) and content.get('format') == FORMAT:
        parts = {name: content.get(name) for name in TokenizerFile._fields}
        shaped = isinstance(parts['centers'], Tensor) and parts['centers'].ndim == 2 and len(parts['centers']) > 1
        dicts = all(isinstance(parts[name], dict) for name in ('settings', 'features', 'about'))
        if isinstance(parts['kind'], str) and shaped and dicts:
            return TokenizerFile(**parts)  # type: ignore[arg-type]
        raise UsageError(f'the tokenizer {path} is not complete: make it again with {HOW} {path}')
    weights = content.get('state_dict', content) if isinstance(content, Mapping) else {}
    if isinstance(weights, Mapping) and isinstance(weights.get(DALLE_KEY), Tensor):
        tensors = {name: one for name, one in weights.items() if isinstance(one, Tensor)}
        return TokenizerFile('DALLETokenizer', {}, tensors, torch.empty(0, 0), None, {})
    found = f'keys {sorted(map(str, content))[:6]}' if isinstance(content, Mapping) else type(content).__name__
    raise UsageError(
        f'{path} is no tokenizer (found {found}): make one with {HOW} FILE, or give the state dict of DALL-E’s encoder'
    )


def write_tokenizer(path: str | os.PathLike[str], content: TokenizerFile) -> None:
    """Writes a tokenizer, whole or not at all.

    Raises:
        DiskError: the disk does not take it.
    """
    whole = dict(format=FORMAT, **content._asdict())
    write_atomically(path, lambda file: torch.save(whole, file))


def _read(path: str | os.PathLike[str]) -> Any:
    file = expanded(path)
    if not file.is_file():
        raise UsageError(
            f'there is no file {os.fspath(path)!r}. Make it with {HOW} FILE, or give another by '
            '--cfg-options model.tokenizer=FILE'
        )
    try:
        return torch.load(file, map_location='cpu', weights_only=True)
    except Exception as error:  # A damaged file fails in any of torch's, zip's and pickle's ways.
        refused = 'weights_only' in str(error) or 'Unsupported' in str(error)
        why = 'holds Python objects and not plain data, and nothing of it was executed' if refused else 'is damaged'
        raise UsageError(
            f'the tokenizer {file} cannot be read: it {why} ({type(error).__name__}).{f" {PICKLED}" if refused else ""}'
        ) from error
