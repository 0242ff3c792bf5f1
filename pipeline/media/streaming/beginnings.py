"""Recognise a server that sends the same recording from its beginning on each connection.

>>> beginnings = Beginnings()
>>> list(beginnings.watched(iter([b"a", b"b"]), 2))
[b'a', b'b']
>>> list(beginnings.watched(iter([b"a", b"b"]), 2))
Traceback (most recent call last):
    ...
deiii.pipeline.media.streaming.beginnings.StartsAgain: the server sends the same recording from its beginning
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

FIRST = 10  # packets that are compared; two recordings of a camera differ in the first one, because of noise


class StartsAgain(Exception):
    """A connection begins with the same bytes as an earlier one."""


class Beginnings:
    """Compares the first packets of each connection with those of the connections before."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def watched(self, packets: Iterable[Any], most: int = FIRST) -> Iterator[Any]:
        """Yield the packets of a connection, whose data `bytes` returns.

        Args:
            packets: the packets, from the beginning of the connection.
            most: number of packets that are compared.

        Raises:
            StartsAgain: the first packets are those of an earlier connection.
        """
        digest, count = hashlib.sha256(), 0
        for packet in packets:
            if count < most and (data := bytes(packet)):
                digest.update(data)
                count += 1
                if count == most:
                    if digest.digest() in self._seen:
                        raise StartsAgain("the server sends the same recording from its beginning")
                    self._seen.add(digest.digest())
            yield packet
