"""Full frames from interlaced ones, by FFmpeg's bwdif filter."""

from __future__ import annotations

from collections.abc import Iterator

import av
import av.error
import av.filter


def deinterlaced(frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Yield one full frame for each frame; interlaced ones are deinterlaced, others pass unchanged."""
    graph: av.filter.Graph | None = None
    kind: tuple[int, int, str] | None = None
    for frame in frames:
        now = frame.width, frame.height, frame.format.name
        if graph is not None and now != kind:
            yield from _drain(graph, None)
            graph = None
        if graph is None and frame.interlaced_frame:
            graph = _bwdif(frame)
            kind = now
        if graph is None:
            yield frame
        else:
            yield from _drain(graph, frame)
    if graph is not None:
        yield from _drain(graph, None)


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
