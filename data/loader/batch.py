"""The batches that the network reads, and the compact form in which they are stored and copied.

Axes: B clips, T video steps, F rows of flow (`deiii.data.loader.sampling.flow_rows`), V channels of flow,
L log-mel hops, R rows of an extra stream (T of a video stage), H stored and S given crop size in px, U size
of the flow in px (H or S; 0 in a batch without flow), M mel bands, C classes, A attributes, K random numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from deiii.data.tools.shapes import check_axes, describe_shapes

Axes = dict[str, tuple[str | int, ...]]


@dataclass(kw_only=True, repr=False)
class ExtraStream:
    """One stage of ``model.extra`` as the network reads it.

    Attributes:
        values: float32 [B,R,...], a vector [D] or layers [layers,D] a row.
        time: float32 [B,R], s on the clip's media clock.
        mask: bool [B,R], true where the row is valid.
    """

    values: Tensor
    time: Tensor
    mask: Tensor

    def __repr__(self) -> str:
        return describe_shapes(self)


@dataclass(kw_only=True, repr=False)
class StoredExtra(ExtraStream):
    """An `ExtraStream` as stored: ``values`` of the stage's type; ``at`` int64 [B,R], resident rows."""

    at: Tensor


@dataclass(kw_only=True, repr=False)
class ClipInfo:
    """The small fields of a batch's clips; the same before and after augmentation.

    Attributes:
        video_time: float32 [B,T], s on the clip's media clock.
        audio_time: float32 [B,L], s on the same clock.
        video_mask: bool [B,T], true where the step holds a valid face.
        flow_mask: bool [B,T], true where the flow of the step is valid too.
        audio_mask: bool [B,L], true where the hop holds audio.
        label: int64 [B], class number, -1 where unknown.
        soft: float32 [B,C], target distribution (one-hot where the corpus has none; zeros if unknown).
        attributes: float32 [B,A], in the corpus's range, NaN where missing.
        index: int64 [B], the clip's row in the feature set; -1 for a filler.
        real: bool [B], false for rows that only fill up the last batch.
        extra: streams that ``model.extra`` names, keyed by stage.

    Raises:
        ValueError: where shapes do not fit together; names the field, its shape and the one expected.
    """

    AXES: ClassVar[Axes] = {
        "video_time": ("B", "T"),
        "audio_time": ("B", "L"),
        "video_mask": ("B", "T"),
        "flow_mask": ("B", "T"),
        "audio_mask": ("B", "L"),
        "label": ("B",),
        "soft": ("B", "C"),
        "attributes": ("B", "A"),
        "index": ("B",),
        "real": ("B",),
    }
    EXTRA: ClassVar[type[ExtraStream]] = ExtraStream

    video_time: Tensor
    audio_time: Tensor
    video_mask: Tensor
    flow_mask: Tensor
    audio_mask: Tensor
    label: Tensor
    soft: Tensor
    attributes: Tensor
    index: Tensor
    real: Tensor
    extra: dict[str, ExtraStream] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_axes(self, self.AXES)
        clips = self.label.shape[0]
        for name, stream in self.extra.items():
            rows = tuple(stream.time.shape)
            for key, tensor in vars(stream).items():
                if tuple(tensor.shape[:2]) != rows or rows[0] != clips:
                    raise ValueError(
                        f"{type(self).__name__}.extra[{name!r}].{key} has the shape {list(tensor.shape)}, "
                        f"expected [B,R,...] with B={clips} and R of its time, {list(rows)}"
                    )

    def __len__(self) -> int:
        return self.label.shape[0]

    def __repr__(self) -> str:
        return describe_shapes(self)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors().values())

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor by name; those of an extra stream as ``extra/<stage>/<field>``."""
        found = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extra"}
        for name, stream in self.extra.items():
            found |= {f"extra/{name}/{key}": tensor for key, tensor in vars(stream).items()}
        return found

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Return the batch of tensors named as `tensors` names them."""
        own = {name: tensor for name, tensor in tensors.items() if "/" not in name}
        extra: dict[str, dict[str, Tensor]] = {}
        for name in tensors.keys() - own.keys():
            _, stage, key = name.split("/")
            extra.setdefault(stage, {})[key] = tensors[name]
        return cls(**own, extra={stage: cls.EXTRA(**extra[stage]) for stage in sorted(extra)})

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Return the batch with every tensor changed.

        >>> batch.map(lambda x: x[:4])  # doctest: +SKIP
        """
        return self.from_tensors({name: change(tensor) for name, tensor in self.tensors().items()})


@dataclass(kw_only=True, repr=False)
class Batch(ClipInfo):
    """One batch of clips as the network reads it, of static shape; what is missing or padding is masked.

    Attributes:
        frames: float32 [B,T,3,S,S], RGB, about zero mean and unit variance.
        flow: float32 [B,T,V,U,U], px of the crop in 1/25 s (to the next frame
            where ``loader.flow_per_second`` is off); u right, v down. V is 2: the flow of the step's frame,
            or the sum of that of ``loader.flow_frames`` frames. With ``loader.flow_join=stack`` the flow of
            each of these frames has two channels of its own.
        logmel: float32 [B,L,M], about zero mean and unit variance.
        Others: attributes of `ClipInfo`.

    Raises:
        ValueError: the axes of the tensors do not fit together, or V is odd.
    """

    AXES: ClassVar[Axes] = ClipInfo.AXES | {
        "frames": ("B", "T", 3, "S", "S"),
        "flow": ("B", "T", "V", "U", "U"),
        "logmel": ("B", "L", "M"),
    }

    frames: Tensor
    flow: Tensor
    logmel: Tensor

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.flow.shape[2] % 2:
            raise ValueError(
                f"Batch.flow has the shape {list(self.flow.shape)}, expected [B,T,V,U,U] with an even V: "
                "channels are u and v of one frame or more"
            )

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on another device; itself where it is there already."""
        if self.label.device == torch.device(device):
            return self
        return self.map(lambda tensor: tensor.to(device))

    @classmethod
    def from_inputs(cls, inputs: Mapping[str, Tensor]) -> Batch:
        """Return the batch of some of its tensors; the others are empty, false or zero.

        Masks among the others are bool, all else is float32, also ``label``, ``index`` and ``real``.

        Args:
            inputs: tensors named as `tensors` names them.
        """
        sizes: dict[str, int] = {}
        for name, axes in cls.AXES.items():
            if name in inputs:
                sizes |= {a: n for a, n in zip(axes, inputs[name].shape, strict=True) if isinstance(a, str)}
        some = next(iter(inputs.values()))
        sizes.setdefault("B", some.shape[0])
        absent = {
            name: some.new_zeros(
                [sizes.get(a, 0) if isinstance(a, str) else a for a in axes],
                dtype=torch.bool if name.endswith("_mask") else torch.float32,
            )
            for name, axes in cls.AXES.items()
            if name not in inputs
        }
        return cls.from_tensors({**absent, **inputs})


@dataclass(kw_only=True, repr=False)
class StoredBatch(ClipInfo):
    """One batch as it is stored and copied; `deiii.data.loader.augment.Augment` makes a `Batch` of it.

    Attributes:
        frames: uint8 [B,T,H,H,3].
        flow: int8 or float16 [B,F,U,U,2].
        logmel: float16 [B,L,M], dB. These three are empty where the batch comes from resident data or the
            stream is switched off.
        frame_at, flow_at, hop_at: int64 [B,T], [B,F], [B,L]; rows in the resident arrays.
        scale: float32 [B,F], factor from stored flow to px of the crop in 1/25 s (to the next frame where
            ``loader.flow_per_second`` is off); 0 without flow.
        draws: float32 [B,K] in [0,1), the clip's random numbers for augmentation.
        extra: a `StoredExtra` for each extra stream, keyed by stage.
        Others: attributes of `ClipInfo`.
    """

    AXES: ClassVar[Axes] = ClipInfo.AXES | {
        "frames": ("B", "T", "H", "H", 3),
        "flow": ("B", "F", "U", "U", 2),
        "logmel": ("B", "L", "M"),
        "frame_at": ("B", "T"),
        "flow_at": ("B", "F"),
        "hop_at": ("B", "L"),
        "scale": ("B", "F"),
        "draws": ("B", "K"),
    }
    EXTRA: ClassVar[type[ExtraStream]] = StoredExtra

    frames: Tensor
    flow: Tensor
    logmel: Tensor
    frame_at: Tensor
    flow_at: Tensor
    hop_at: Tensor
    scale: Tensor
    draws: Tensor

    def arrays(self) -> dict[str, np.ndarray]:
        """Return numpy views of the tensors, by name."""
        return {name: tensor.numpy() for name, tensor in self.tensors().items()}


ALIGNMENT = 256  # bytes; CUDA's kernels read fields that begin at multiples of 16 fastest, copies of 256
Shapes = Mapping[str, tuple[tuple[int, ...], torch.dtype]]  # shape and type of each field, by name


def slab_bytes(shapes: Shapes) -> int:
    """Return the size in bytes of one block that holds all fields, each at a multiple of `ALIGNMENT`."""
    return max(1, sum(_aligned(shape, dtype) for shape, dtype in shapes.values()))


def slab_fields(slab: Tensor, shapes: Shapes) -> dict[str, Tensor]:
    """Return views of a block of bytes as the fields of a batch; they share its memory.

    A batch in one block goes to the GPU in one copy, whatever the number of its fields.

    Args:
        slab: uint8 [`slab_bytes`].
        shapes: shapes of the fields, the same on both sides of a copy.

    >>> shapes = {"label": ((2,), torch.int64), "mask": ((2, 3), torch.bool)}
    >>> slab = torch.zeros(slab_bytes(shapes), dtype=torch.uint8)
    >>> slab_fields(slab, shapes)["label"]
    tensor([0, 0])
    """
    found, begin = {}, 0
    for name, (shape, dtype) in shapes.items():
        size = math.prod(shape) * dtype.itemsize
        found[name] = slab[begin : begin + size].view(dtype).view(shape)
        begin += _aligned(shape, dtype)
    return found


def _aligned(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    return -(-math.prod(shape) * dtype.itemsize // ALIGNMENT) * ALIGNMENT
