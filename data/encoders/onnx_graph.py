"""Nodes of an ONNX file, and further outputs for it, without the package ``onnx``.

An ONNX file is one protobuf message. Its graph is read here as far as the names of nodes and outputs. A
further output is appended to the file's bytes: protobuf joins two messages that stand one after the other, so
a second graph that holds nothing but an output adds that output to the first.

Sources: https://protobuf.dev/programming-guides/encoding (fields, "last one wins" and merging),
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto (numbers of the fields).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

# Numbers of fields in onnx.proto: ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto.
GRAPH, NODE, INITIALIZER, OUTPUT = 7, 1, 5, 12
NODE_OUTPUT, NODE_TYPE, NODE_ATTRIBUTE = 2, 4, 5
ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH = 5, 6
EXTERNAL = 13  # of a tensor: entries of a key, field 1, and a value, field 2, such as the name of a file
BYTES = 2  # wire type of a text or a message


class Node(NamedTuple):
    """One operation of a graph: its type, such as ``LayerNormalization``, and the names of its outputs."""

    kind: str
    outputs: tuple[str, ...]


def read_nodes(model: bytes) -> list[Node]:
    """Return the nodes of an ONNX file in their order.

    Raises:
        ValueError: the bytes are not those of an ONNX file.

    >>> read_nodes(b"")
    []
    """
    nodes = []
    for graph in _fields(memoryview(model), GRAPH):
        for node in _fields(graph, NODE):
            kinds = [bytes(k).decode() for k in _fields(node, NODE_TYPE)]
            outputs = tuple(bytes(o).decode() for o in _fields(node, NODE_OUTPUT))
            nodes.append(Node(kinds[0] if kinds else "", outputs))
    return nodes


def external_files(model: bytes) -> list[str]:
    """Return the names of the further files in which an ONNX file keeps its tensors.

    >>> external_files(b"")
    []
    """
    names = set()
    for graph in _fields(memoryview(model), GRAPH):
        for tensor in _tensors(graph):
            for entry in _fields(tensor, EXTERNAL):
                keys, values = (b"".join(map(bytes, _fields(entry, field))) for field in (1, 2))
                if keys == b"location":
                    names.add(values.decode())
    return sorted(names)


def _tensors(graph: memoryview) -> Iterator[memoryview]:
    """Yield the constant tensors of a graph, and of the graphs inside its nodes."""
    yield from _fields(graph, INITIALIZER)
    for node in _fields(graph, NODE):
        for attribute in _fields(node, NODE_ATTRIBUTE):
            yield from _fields(attribute, ATTRIBUTE_TENSOR)
            for inner in _fields(attribute, ATTRIBUTE_GRAPH):
                yield from _tensors(inner)


def with_outputs(model: bytes, names: Iterable[str]) -> bytes:
    """Return the ONNX file with further outputs; their types and shapes are inferred when it is loaded.

    Args:
        model: bytes of the file.
        names: names of values that nodes of the graph compute.

    >>> with_outputs(b"", ["x"]).hex()
    '3a0562030a0178'
    """
    graph = b"".join(_message(OUTPUT, _message(1, name.encode())) for name in names)
    return model + _message(GRAPH, graph)


def _fields(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """Yield texts and messages of one field number in a message."""
    at = 0
    while at < len(message):
        tag, at = _number(message, at)
        field, wire = tag >> 3, tag & 7
        if wire == BYTES:
            size, at = _number(message, at)
            if at + size > len(message):
                raise ValueError("it ends in the middle of a field")
            if field == wanted:
                yield message[at : at + size]
            at += size
        elif wire == 0:
            _, at = _number(message, at)
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError(f"it holds a field of the unknown wire type {wire}")


def _number(message: memoryview, at: int) -> tuple[int, int]:
    """Return the number (varint) at a position, and the position after it."""
    value = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise ValueError("it ends in the middle of a number")
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def _message(field: int, content: bytes) -> bytes:
    """Return a field that holds text or a message."""
    return _varint(field << 3 | BYTES) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
