"""Full frames from interlaced ones, by FFmpeg's bwdif filter."""

from __future__ import annotations

from collections.abc import Iterator

import av
import av.error
import av.filter


def deinterlaced(frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Yield one full frame for each frame; interlaced ones are deinterlaced, others pass unchanged."""
    deinterlacer = Deinterlacer()
    for frame in frames:
        yield from deinterlacer.push(frame)
    yield from deinterlacer.push(None)


class Deinterlacer:
    """Deinterlaces frames that come one at a time; an interlaced frame comes out after the next one."""

    def __init__(self) -> None:
        self._graph: av.filter.Graph | None = None
        self._kind: tuple[int, int, str] | None = None

    def push(self, frame: av.VideoFrame | None) -> Iterator[av.VideoFrame]:
        """Take a frame (``None`` at the end) and yield the full frames that are known by now."""
        if frame is None:
            if self._graph is not None:
                yield from _drain(self._graph, None)
                self._graph = None
            return
        now = frame.width, frame.height, frame.format.name
        if self._graph is not None and now != self._kind:
            yield from _drain(self._graph, None)
            self._graph = None
        if self._graph is None and frame.interlaced_frame:
            self._graph = _bwdif(frame)
            self._kind = now
        if self._graph is None:
            yield frame
        else:
            yield from _drain(self._graph, frame)


def _bwdif(frame: av.VideoFrame) -> av.filter.Graph:
    """Return a filter graph that deinterlaces frames of this size and format."""
    graph = av.filter.Graph()
    graph.threads = 1
    graph.link_nodes(
        graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        ),
        graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced"),
        graph.add("buffersink"),
    ).configure()
    return graph


def _drain(graph: av.filter.Graph, frame: av.VideoFrame | None) -> Iterator[av.VideoFrame]:
    """Push a frame (``None`` at the end) and yield the frames that the graph returns."""
    graph.vpush(frame)
    while True:
        try:
            yield graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
