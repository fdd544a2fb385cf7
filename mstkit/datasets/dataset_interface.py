"""What others may ask of a data set, of mmengine's kind or not, and what one answers that knows nothing of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable


class KnownFromConfig:
    """Mixed into data sets of which something is known from their config, before any image is looked for.

    Attributes:
        reads_urls: whether ``data_root`` may be an address.
    """

    reads_urls: ClassVar[bool] = False

    @classmethod
    def classes_of(cls, config: Mapping[str, Any]) -> tuple[str, ...] | None:
        """The names of the classes of a data set with this config; None where they show only when it is built."""
        return None

    @classmethod
    def facts_of(cls, config: Mapping[str, Any]) -> dict[str, Any] | None:
        """``classes`` and ``palette`` of a data set with this config; None where they show only when it is built."""
        return None

    @classmethod
    def keypoints_of(cls, config: Mapping[str, Any]) -> tuple[str, ...] | None:
        """The names of the keypoints of a data set with this config; None where it has none, or they show later."""
        return None

    @classmethod
    def images_of(cls, config: Mapping[str, Any]) -> int | None:
        """How many images a data set with this config has; None where it shows only when it is built."""
        return None


def known_from_config(kind: type | None) -> type[KnownFromConfig]:
    """The class itself where it answers from its config, else one that knows nothing."""
    return kind if isinstance(kind, type) and issubclass(kind, KnownFromConfig) else KnownFromConfig


@runtime_checkable
class DescribedDataset(Protocol):
    """A data set that names its classes in ``metainfo``, as all of mmengine's do, or may do so."""

    metainfo: Any


@runtime_checkable
class ListedDataset(Protocol):
    """A data set that tells what it knows of a sample without reading its image, as mmengine's do."""

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Path and label of a sample, for example."""

    def __len__(self) -> int:
        """How many samples there are."""


@runtime_checkable
class TransformingDataset(Protocol):
    """A data set with a pipeline of transforms."""

    pipeline: Any


@runtime_checkable
class WrappingDataset(Protocol):
    """A data set made of another one (``RepeatDataset``, ``Subset``)."""

    dataset: Any


@runtime_checkable
class JoiningDataset(Protocol):
    """A data set made of several (``ConcatDataset``)."""

    datasets: Any


@runtime_checkable
class Pipeline(Protocol):
    """A pipeline whose transforms can be looked at; a plain function is none."""

    transforms: Any


def metainfo_of(dataset: Any) -> Mapping[str, Any]:
    """What a data set says of its classes; empty where it says nothing."""
    return (dataset.metainfo if isinstance(dataset, DescribedDataset) else None) or {}


def parts_of(dataset: Any) -> Iterator[Any]:
    """A data set, then those that it is made of."""
    yield dataset
    inner = [dataset.dataset] if isinstance(dataset, WrappingDataset) else []
    for one in [*inner, *(dataset.datasets if isinstance(dataset, JoiningDataset) else ())]:
        yield from parts_of(one)


def transforms_of(dataset: Any) -> Iterator[Any]:
    """The transforms of a data set and of those that it is made of."""
    for part in parts_of(dataset):
        if isinstance(part, TransformingDataset) and isinstance(part.pipeline, Pipeline):
            yield from part.pipeline.transforms
