"""Small ONNX files, written field by field with the numbers of onnx.proto; the package onnx is not needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def number(field: int, value: int) -> bytes:
    """Return a field that holds a whole number."""
    return varint(field << 3) + varint(value)


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def text(field: int, content: str | bytes) -> bytes:
    """Return a field that holds text, bytes or a message."""
    raw = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(raw)) + raw


def node(kind: str, inputs: list[str], outputs: list[str], **ints: int | list[int]) -> bytes:
    """Return a NodeProto with attributes of whole numbers."""
    parts = [text(1, name) for name in inputs] + [text(2, name) for name in outputs] + [text(4, kind)]
    for name, value in ints.items():
        many = isinstance(value, list)
        numbers = b"".join(number(8, v) for v in value) if many else number(3, value)
        parts.append(text(5, text(1, name) + numbers + number(20, 7 if many else 2)))
    return b"".join(parts)


def tensor(name: str, values: np.ndarray) -> bytes:
    """Return a TensorProto of float32 or int64."""
    kind = {"float32": 1, "int64": 7}[values.dtype.name]
    dims = b"".join(number(1, n) for n in values.shape)
    return dims + number(2, kind) + text(8, name) + text(9, values.tobytes())


# Numbers of element types in onnx.proto.
FLOAT, UINT8, INT64, BOOL, FLOAT16, DOUBLE = 1, 2, 7, 9, 10, 11


def value(name: str, shape: list[int | str], kind: int = FLOAT) -> bytes:
    """Return a ValueInfoProto, of float32 by default; a text in the shape stands for any size."""
    dims = b"".join(text(1, number(1, n) if isinstance(n, int) else text(2, n)) for n in shape)
    return text(1, name) + text(2, text(1, number(1, kind) + text(2, dims)))


def write(
    path: Path, nodes: list[bytes], tensors: list[bytes], given: bytes | list[bytes], outputs: list[bytes]
) -> str:
    """Write a ModelProto with operators of version 17 and one or several inputs; returns its path."""
    graph = b"".join(text(1, n) for n in nodes) + text(2, "graph")
    graph += b"".join(text(5, t) for t in tensors)
    graph += b"".join(text(11, one) for one in ([given] if isinstance(given, bytes) else given))
    graph += b"".join(text(12, o) for o in outputs)
    path.write_bytes(number(1, 8) + text(7, graph) + text(8, text(1, "") + number(2, 17)))
    return str(path)


def speech_file(path: Path, filters: np.ndarray, length: int | str = "n", hop: int = 320) -> str:
    """Write a network from samples [B,n] to rows: filters float32 [D,1,320] every ``hop`` samples, then abs.

    The inner value ``rows`` [B,R,D] is no output of the file; ``louder`` is.
    """
    nodes = [
        node("Unsqueeze", ["samples", "one"], ["channel"]),
        node("Conv", ["channel", "filters"], ["columns"], strides=[hop]),
        node("Transpose", ["columns"], ["rows"], perm=[0, 2, 1]),
        node("Abs", ["rows"], ["louder"]),
    ]
    tensors = [tensor("one", np.array([1], np.int64)), tensor("filters", filters)]
    return write(
        path, nodes, tensors, value("samples", ["B", length]), [value("louder", ["B", "R", len(filters)])]
    )


def image_file(path: Path, size: int, channels_first: bool) -> str:
    """Write a network from images to the means of their channels, ``means`` [B,3], and their ``squares``."""
    shape: list[int | str] = ["B", 3, size, size] if channels_first else ["B", size, size, 3]
    axes = [2, 3] if channels_first else [1, 2]
    nodes = [
        node("ReduceMean", ["images"], ["means"], axes=axes, keepdims=0),
        node("Mul", ["means", "means"], ["squares"]),
    ]
    return write(path, nodes, [], value("images", shape), [value("squares", ["B", 3])])
