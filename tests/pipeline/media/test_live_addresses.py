"""Addresses of live sources that are refused before anything is opened, and why one cannot be opened."""

from __future__ import annotations

import av.error
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deiii.pipeline.media.streaming.address import NETWORK, LiveError, address, why
from deiii.pipeline.media.streaming.live import LiveReader


@pytest.mark.parametrize(
    "source", ["rtsp://", "http://", "rtsp:///live", "https://:8443/live", "rtsp://anna:geheim@/x"]
)
def test_an_address_without_a_host_is_refused(source):
    with pytest.raises(LiveError, match="names no host") as found:
        address(source)
    assert "geheim" not in str(found.value)


@pytest.mark.parametrize(
    "source",
    [
        "rtsp://camera:port/live", "rtsp://camera:99999/live", "rtsp://camera:0/live", "http://fd00::1/live",
        "rtsp://[fd00::1/live",
    ],
)  # fmt: skip
def test_a_port_that_is_none_is_refused(source):
    with pytest.raises(LiveError, match="not a number from 1 to 65535"):
        address(source)


@given(st.text("abcxyz", min_size=3), st.sampled_from("/?#"), st.text("abc123xyz", min_size=3))
def test_a_password_with_a_sign_of_addresses_is_refused_with_the_remedy(begin, sign, end):
    with pytest.raises(LiveError, match="in a password, write %40, %3A, %2F, %3F and %23") as found:
        address(f"rtsp://anna:{begin}{sign}{end}@camera:554/live")
    assert f"{begin}{sign}{end}" not in str(found.value)


@pytest.mark.parametrize(
    "source",
    [
        "rtsp://camera/live", "rtsp://anna:p%2Fss@camera:554/live", "rtsp://anna:p@ss@camera/live",
        "http://[fd00::1]:8080/a?b=c#d", "http://server/@anna/live.m3u8", "http://server:/live.ts",
        "udp://@:5004", "udp://:5004", "rtp://239.0.0.1:5004", "tcp://:5004?listen=1",
    ],
)  # fmt: skip
def test_other_addresses_are_opened_as_they_are(source):
    assert address(source).url == source


@pytest.mark.parametrize("scheme", NETWORK)
def test_the_case_of_a_scheme_does_not_matter_and_all_else_is_kept(scheme):
    assert address(f"{scheme.upper()}Anna@Camera/Live?K=V") == address(f"{scheme}Anna@Camera/Live?K=V")
    assert address(f"{scheme.upper()}Camera/Live").url == f"{scheme}Camera/Live"


def test_a_scheme_in_capital_letters_reaches_the_host():
    with pytest.raises(LiveError, match="nothing listens at this host and port"):
        LiveReader("RTSP://127.0.0.1:1/live").start()


def test_a_protocol_that_pyav_lacks_is_named():
    error = av.error.ProtocolNotFoundError(1, "Protocol not found")
    assert why("SRT://camera:9000", error).startswith(
        "this version of PyAV was built without srt://; use another"
    )
