"""What all slices are told, and the images that they take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mstkit.errors import UsageError
from mstkit.scenes import BuiltinScenes


@dataclass(frozen=True)
class Settings:
    """What the command line says.

    Attributes:
        out: the folder of all results.
        data_root: the folder of the images, with train and val; None for drawn scenes.
        rehearse: everything at tiny size on the CPU.
    """

    out: Path
    data_root: Path | None
    rehearse: bool

    @property
    def device(self) -> str:
        """Of the measurements."""
        return 'cpu' if self.rehearse else 'cuda'

    def scratch(self, name: str) -> Path:
        """A folder for the files of a slice."""
        folder = self.out / 'files' / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def images(self, side: int = 320, train: int = 2000, val: int = 500) -> Path:
        """The folder of the images; drawn scenes, as JPEG files by class, where none was given."""
        if self.data_root is not None:
            if not (self.data_root / 'train').is_dir():
                raise UsageError(f'--data-root {self.data_root} has no folder train.')
            return self.data_root
        if self.rehearse:
            side, train, val = 48, 40, 20
        root = self.scratch('scenes') / str(side)
        for split, count in (('train', train), ('val', val)):
            folder = root / split
            if (folder / 'complete').is_file():
                continue
            scenes = BuiltinScenes(split=split, num_images=count, image_size=side, cache=False)
            for number in range(count):
                scene = scenes[number]
                name = f'{number:05d}.jpg'
                place = folder / str(scenes.metainfo['classes'][int(scene['gt_label'])]).replace(' ', '-')
                place.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.asarray(scene['img'])).save(place / name, quality=92)
            (folder / 'complete').touch()
        return root
