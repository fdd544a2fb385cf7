"""A folder of images of which some are damaged: what cannot be read is counted and named, the rest is trained on."""

from __future__ import annotations

import io
import random
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.chaos.forked_runs import ForkedRun
from tests.chaos.outcomes import Outcome, timed
from tests.chaos.small_runs import RUNS

MISTAKE = 2  # exit status


def _encoded(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def _bomb() -> bytes:
    """A PNG of some kilobytes that claims 40,000 x 40,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    header = struct.pack('>IIBBBBB', 40_000, 40_000, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1 << 20))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', rows) + chunk(b'IEND', b'')


def _float_tiff(value: float) -> bytes:
    pixels = np.full((40, 40), 0.5, np.float32)
    pixels[3, 4] = value
    return _encoded(pixels, 'TIFF')


def _animated(pixels: np.ndarray) -> bytes:
    frames = [Image.fromarray(np.roll(pixels, 9 * step, 0)) for step in range(3)]
    stream = io.BytesIO()
    frames[0].save(stream, 'GIF', save_all=True, append_images=frames[1:])
    return stream.getvalue()


def _turned(pixels: np.ndarray) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return _encoded(pixels, 'JPEG', exif=exif)


def _cmyk(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).convert('CMYK').save(stream, 'JPEG')
    return stream.getvalue()


# By the name of the file: what it holds, and whether it can be read.
DAMAGES: dict[str, tuple[Callable[[np.ndarray], bytes], bool]] = {
    'cut_off.jpg': (lambda pixels: _encoded(pixels, 'JPEG')[:200], False),
    'a_png.jpg': (lambda pixels: _encoded(pixels, 'PNG'), True),
    'html.jpg': (lambda _: b'<!DOCTYPE html><html><body>404 Not Found</body></html>', False),
    'zero_bytes.jpg': (lambda _: b'', False),
    'bomb.png': (lambda _: _bomb(), False),
    'one_pixel.png': (lambda pixels: _encoded(pixels[:1, :1], 'PNG'), True),
    'a_line.png': (lambda pixels: _encoded(np.resize(pixels, (1, 10_000, 3)), 'PNG'), True),
    'sixteen_bits.png': (lambda pixels: _encoded(pixels[..., 0].astype(np.uint16) * 257, 'PNG'), True),
    'cmyk.jpg': (_cmyk, True),
    'animated.gif': (_animated, True),
    'turned.jpg': (_turned, True),
    'not_a_number.tif': (lambda _: _float_tiff(float('nan')), False),
}


def damage(images: Path, folder: Path, count: int, seed: int = 0) -> Outcome:
    """Puts the twelve kinds of :data:`DAMAGES` between the images, 5 % of them, and trains.

    Every round has them at other places of the order; in every second one, a good file is damaged while the run reads,
    which keeps no decoded copies. Each file that cannot be read has to be named with a reason in the log, none of the
    others may be, and the run has to end well. Then a file is renamed, which resuming has to refuse with a word.

    Args:
        images: a folder of images that can be read.
        folder: for the damaged copies and the work dirs.
        count: rounds.
        seed: of the places.
    """
    outcome = Outcome('data', facts=dict(damaged=0, unreadable=0, named=0, changes_noticed=0))
    dice = random.Random(seed)
    run = RUNS[0]
    with timed(outcome):
        for number in range(count):
            place = folder / f'{number:03d}'
            shutil.copytree(images, place / 'images')
            # So many that the damaged ones are a twentieth.
            good = sorted((place / 'images' / 'train').rglob('*.png'))
            for index in range(len(DAMAGES) * 19 - len(good)):
                source = good[index % len(good)]
                shutil.copy(source, source.with_name(f'{source.stem}_{index}.png'))
            late = number % 2 == 1
            unreadable = _put(place / 'images' / 'train', dice, late)
            words = run.words(place / 'images', place / 'run')
            words += ['train_dataloader.dataset.memory=False', 'custom_hooks.2.max_fraction=0.1']
            training = ForkedRun(words, place / 'log')
            if late:
                training.wait(dice.uniform(0.5, 4))
                victim = dice.choice(sorted((place / 'images' / 'train').rglob('*_1*.png')))
                victim.write_bytes(b'gone')
            fault = None if training.wait() else 'it hangs'
            training.kill()
            fault = fault or _fault(training, place, unreadable, outcome)
            outcome.count(fault and f'{place}: {fault}', damaged=len(DAMAGES), unreadable=len(unreadable))
            if fault is None:
                outcome.facts['changes_noticed'] += _notices_a_change(words, place)
                shutil.rmtree(place)
    return outcome


def _put(train: Path, dice: random.Random, late: bool) -> list[Path]:
    """Writes the damaged files; returns those that cannot be read."""
    folders = sorted(path for path in train.iterdir() if path.is_dir())
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3)).astype(np.uint8)
    unreadable = []
    for name, (make, readable) in DAMAGES.items():
        file = dice.choice(folders) / f'{dice.randrange(1000):03d}_{name}'
        file.write_bytes(make(pixels))
        if not readable:
            unreadable.append(file)
    return unreadable


def _fault(training: ForkedRun, place: Path, unreadable: list[Path], outcome: Outcome) -> str | None:
    said = training.said()
    if any(training.codes.values()) or 'Traceback' in said:
        return f'ended with {training.codes}: {said[-500:]}'
    (log,) = (place / 'run').glob('*/*.log')
    named = dict(re.findall(r'unreadable image, replaced by another: (\S+) \((.+)\)', log.read_text()))
    names = {Path(path).name: reason for path, reason in named.items()}
    outcome.facts['named'] += sum(file.name in names for file in unreadable)
    missing = [file.name for file in unreadable if file.name not in names]
    readable = [name for name in names if any(name.endswith(one) for one, (_, fine) in DAMAGES.items() if fine)]
    if missing or readable:
        return f'not named: {missing}; named although they can be read: {readable}; named: {names}'
    if any('no reason' in reason for reason in names.values()):
        return f'without a reason: {names}'
    return None


def _notices_a_change(words: list[str], place: Path) -> bool:
    """Whether a run is refused that is resumed with a file renamed."""
    file = next((place / 'images' / 'train').rglob('*.png'))
    file.rename(file.with_name(f'renamed_{file.name}'))
    training = ForkedRun([*words[:1], '--resume', *words[1:]], place / 'log')
    training.wait()
    training.kill()
    return training.codes[0] == MISTAKE and 'Traceback' not in training.said()
