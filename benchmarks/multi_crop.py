"""Images per second and core of the multi-crop pipeline: python benchmarks/multi_crop.py --images DIR [--rounds 5]

Compares mstkit with DINO's recipe on torchvision and Pillow, and with decoding and resizing alone, in alternating
rounds on one thread. See benchmarks/README.md.
"""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

import argparse
import itertools
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL
import torch
import torchvision
from contest.json_line import machine, print_line
from contest.turns import in_turn
from mmengine.dataset import default_collate
from PIL import Image, ImageFilter, ImageOps
from torchvision import transforms

from mstkit.datasets import LoadRGB, MultiCrop, PackViews, SampleKey, UnreadableImage
from mstkit.datasets.folder_scan import scan_folder
from mstkit.datasets.image_folder import find_split
from mstkit.errors import UsageError, exit_cleanly
from mstkit.models import ViewDataPreprocessor
from mstkit.utils.progress_bar import track

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STAGES = ('decode', 'crops', 'photometric', 'tensors')
BARE = 'bare calls'
BATCH = 8  # of the step on the device

Make = Callable[[str, int], list[float]]


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description='DINO multi-crop views: images per second on one core.')
    parser.add_argument('--images', required=True, metavar='DIR', help='a folder of photographs, in any depth')
    parser.add_argument('--against', choices=('torchvision', 'none'), default='torchvision')
    parser.add_argument('--max-images', type=int, default=60, help='so many, from all over the folder')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--device', default='cpu', help='for the step that colors and normalizes a batch')
    parser.add_argument('--json', metavar='OUT', help='also write the line of JSON to this file')
    return parser.parse_args()


class TorchvisionViews:
    """DINO's views as its published code makes them, with torchvision on Pillow images, to normalized tensors."""

    def __init__(self) -> None:
        color = [
            transforms.RandomHorizontalFlip(0.5),
            transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
            transforms.RandomGrayscale(p=0.2),
        ]
        first = transforms.Compose([*color, lambda image: blurred(image, 1.0)])
        second = transforms.Compose([*color, lambda image: blurred(image, 0.1), lambda image: solarized(image, 0.2)])
        local = transforms.Compose([*color, lambda image: blurred(image, 0.5)])
        large, small = self.crop(224, (0.4, 1.0)), self.crop(96, (0.05, 0.4))
        self.views = [(large, first), (large, second), *[(small, local)] * 8]
        self.tensor = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])

    @staticmethod
    def crop(size: int, scale: tuple[float, float]) -> Callable[[Image.Image], Image.Image]:
        """A random crop, resized."""
        return transforms.RandomResizedCrop(size, scale, interpolation=transforms.InterpolationMode.BICUBIC)

    def __call__(self, path: str, number: int) -> list[float]:
        """Makes the views of one file; returns the time stamps at the start and after each stage."""
        times = [time.perf_counter()]
        with open(path, 'rb') as stream:
            image = Image.open(stream).convert('RGB')
        times.append(time.perf_counter())
        crops = [crop(image) for crop, _ in self.views]
        times.append(time.perf_counter())
        views = [color(view) for view, (_, color) in zip(crops, self.views, strict=True)]
        times.append(time.perf_counter())
        for view in views:
            self.tensor(view)
        times.append(time.perf_counter())
        return times


def blurred(image: Image.Image, probability: float) -> Image.Image:
    """Pillow's Gaussian blur of a random radius, with a probability."""
    if random.random() >= probability:
        return image
    return image.filter(ImageFilter.GaussianBlur(radius=random.uniform(0.1, 2.0)))


def solarized(image: Image.Image, probability: float) -> Image.Image:
    """Pillow's solarization, with a probability."""
    return ImageOps.solarize(image) if random.random() < probability else image


class OurViews:
    """The pipeline of configs/_base_/datasets/imagenet_multicrop.py, to uint8 tensors."""

    def __init__(self, photometric: str, scaled: bool = False) -> None:
        self.steps = [LoadRGB(scaled), MultiCrop(photometric=photometric), PackViews()]
        self.samples: list[dict[str, Any]] = []

    def __call__(self, path: str, number: int) -> list[float]:
        """Makes the views of one file; returns the time stamps at the start and after each transform."""
        results: dict[str, Any] = dict(img_path=path, sample_idx=SampleKey(number))
        times = [time.perf_counter()]
        for step in self.steps:
            results = step.transform(results)
            times.append(time.perf_counter())
        self.samples[number % BATCH :] = [results]
        return times


class BareCalls:
    """What is left of the views if nothing is around their two longest calls: OpenCV's decoder and PyTorch's resizing.

    The file is in memory, its header is not looked at, the crops are cut, nothing is drawn, colored or packed. No form
    of the pipeline that decodes and resizes with these two is faster.
    """

    def __init__(self) -> None:
        self.crops = MultiCrop(photometric='device', boxes=True)

    def __call__(self, path: str, number: int) -> list[float]:
        """Decodes one file and resizes the boxes of its views; returns time stamps as if nothing else took any."""
        data = np.fromfile(path, np.uint8)
        start = time.perf_counter()
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
        decoded = time.perf_counter() - start
        assert image is not None  # find_images has read it
        boxes = self.crops.transform(dict(img=image, sample_idx=SampleKey(number)))['view_boxes']
        patches = [torch.from_numpy(cut(image, *box[:4]))[None].permute(0, 3, 1, 2) for box in boxes]
        start = time.perf_counter()
        for patch, (crop, _) in zip(patches, self.crops.views, strict=True):
            torch.nn.functional.interpolate(patch, (crop.size, crop.size), mode='bicubic', antialias=True)
        resized = time.perf_counter() - start
        return [0.0, decoded, *[decoded + resized] * 3]


def cut(image: np.ndarray, left: float, top: float, width: float, height: float) -> np.ndarray:
    """A copy of a box whose place and size are shares of the image's sides."""
    rows, columns = image.shape[:2]
    return image[
        round(top * rows) : round((top + height) * rows), round(left * columns) : round((left + width) * columns)
    ].copy()


def find_images(folder: str, most: int) -> list[str]:
    """Readable images, evenly spaced in a folder; prints the number of files that cannot be read."""
    root = find_split(folder, '')
    scan = scan_folder(root)
    if not scan.images:
        raise UsageError(f'--images {folder} holds no images{scan.ignored_in_words()}: give a folder of photographs.')
    count = min(most, len(scan.images))
    chosen = [str(Path(root) / scan.images[index * len(scan.images) // count]) for index in range(count)]
    readable, reasons = [], []
    for path in track(chosen, count, 'reading'):
        try:
            LoadRGB().transform(dict(img_path=path))
            Image.open(path).close()
        except UnreadableImage as error:
            reasons.append(str(error))
        else:
            readable.append(path)
    if reasons:
        print(f'left out {len(reasons)} of {count} files, the first: {reasons[0]}')
    if not readable:
        raise UsageError(f'--images {folder}: none of {count} images can be read.')
    return readable


def one_round(make: Make, paths: list[str]) -> list[float]:
    """Milliseconds per image of each stage, and of all of them."""
    times = [make(path, number) for number, path in enumerate(paths)]
    sums = [sum(each) for each in zip(*([b - a for a, b in itertools.pairwise(t)] for t in times), strict=True)]
    return [1000 * seconds / len(paths) for seconds in (*sums, sum(sums))]


def device_step(views: OurViews, device: str, rounds: int) -> float:
    """Milliseconds per image of a batch's normalization on the device, and of color augmentation if done there."""
    preprocess = ViewDataPreprocessor([255 * m for m in MEAN], [255 * s for s in STD]).to(device)
    batch, taken = default_collate(views.samples), []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        preprocess(batch, True)
        if device.startswith('cuda'):
            torch.cuda.synchronize(device)
        taken.append(1000 * (time.perf_counter() - start) / len(views.samples))
    return statistics.median(taken[1:])


def main() -> None:
    """Takes turns, prints."""
    args = parse_args()
    for name in ('max_images', 'rounds'):
        if getattr(args, name) < 1:
            raise UsageError(f'--{name.replace("_", "-")} is {getattr(args, name)}: give at least 1.')
    if args.device.startswith('cuda') and not torch.cuda.is_available():
        raise UsageError(f'--device {args.device}: PyTorch sees no GPU here; leave it out to measure on the CPU.')
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    random.seed(0)
    torch.manual_seed(0)
    paths = find_images(args.images, args.max_images)
    ours = {
        f'{where}{", scaled" if scaled else ""}': OurViews(where, scaled)
        for scaled in (False, True)
        for where in ('cpu', 'device')
    }
    contestants: dict[str, Make] = {**ours, BARE: BareCalls()}
    if args.against == 'torchvision':
        contestants['torchvision'] = TorchvisionViews()
    taken: dict[str, list[list[float]]] = {name: [] for name in contestants}
    for turn in track(range(args.rounds + 1), args.rounds + 1, 'rounds'):
        for name in in_turn(contestants, turn):
            taken[name].append(one_round(contestants[name], paths))
    steps = {name: device_step(views, args.device, args.rounds) for name, views in ours.items()}
    report(args, len(paths), {name: turns[1:] for name, turns in taken.items()}, steps)


def report(args: argparse.Namespace, images: int, taken: dict[str, list[list[float]]], steps: dict[str, float]) -> None:
    """Prints the lines for people and the line of JSON."""
    versions = {m.__name__: m.__version__ for m in (torch, torchvision, PIL, cv2)}
    print(
        f'{images} images of {args.images}, 2 views of 224 px and 8 of 96 px each, one thread, {args.rounds} rounds; '
        f'{", ".join(" ".join(pair) for pair in versions.items())}'
    )
    print('milliseconds per image, colors on the CPU or left to the device (whose step is not in the sum):')
    print(f'{"":16}{"decode":>8}{"crops":>8}{"colors":>9}{"tensors":>9}{"all":>8}{"images/s":>10}{"device step":>13}')
    results: dict[str, dict[str, Any]] = {}
    for name, turns in taken.items():
        middle = [statistics.median(column) for column in zip(*turns, strict=True)]
        if name in steps:  # MultiCrop crops and colors in one transform: colors are the difference without them
            crops = statistics.median(turn[1] for turn in taken[name.replace('cpu', 'device')])
            middle[1:2] = [crops, max(0.0, middle[1] - crops)]
        row = dict(zip((*STAGES, 'all'), (round(value, 4) for value in middle), strict=True))
        rates = [1000 / turn[-1] for turn in turns]
        results[name] = {
            'milliseconds': row,
            'images_per_second': round(1000 / middle[-1], 2),
            'slowest': round(min(rates), 2),
            'fastest': round(max(rates), 2),
        }
        told = ''
        if name in steps:
            results[name]['device_step_milliseconds'] = round(steps[name], 4)
            told = f'{steps[name]:13.3f}'
        values = ''.join(f'{row[key]:{width}.2f}' for key, width in zip(row, (8, 8, 9, 9, 8), strict=True))
        print(f'{name:16}{values}{1000 / middle[-1]:10.1f}{told}')
    for name in (*steps, BARE) if 'torchvision' in taken else ():
        ratio = statistics.median(b[-1] / a[-1] for a, b in zip(taken[name], taken['torchvision'], strict=True))
        results[name]['times_torchvision'] = ratio = round(ratio, 3)
        print(f'{name}: {ratio:.2f} times the images per second of torchvision')
    settings = dict(images=images, rounds=args.rounds, device=args.device)
    print_line({**settings, 'machine': machine(), **versions, 'results': results}, args.json)


if __name__ == '__main__':
    exit_cleanly(main)()
