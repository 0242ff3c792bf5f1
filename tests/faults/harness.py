"""What every injected fault is made of: a record, its injection, and a verdict.

A fault is a function on a `laboratory.Lab`. It injects its trouble into the real programs, checks what
must hold, and returns what was seen in a few words. `Lost` says that finished work is gone, any other
exception that something is wrong; `NotHere` that this machine cannot do it.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.faults.laboratory import Lab


class Lost(AssertionError):
    """Finished work is gone or changed."""


class NotHere(Exception):
    """The fault cannot be injected on this machine; says why."""


@dataclass(frozen=True)
class Fault:
    """One injected fault.

    Attributes:
        group: number and name of its kind, e.g. ``1 kills``.
        name: what is done.
        expect: what must come of it.
        inject: does it; returns what was seen.
        short: whether it is part of the short form (`make test`).
    """

    group: str
    name: str
    expect: str
    inject: Callable[[Lab], str | None]
    short: bool = False


@dataclass(frozen=True)
class Verdict:
    """What became of a fault: ``ok``, ``LOST``, ``WRONG`` or ``skipped``."""

    fault: Fault
    result: str
    seen: str
    seconds: float
    trace: str = ""


FAULTS: list[Fault] = []


def faults(group: str):
    """A decorator that files a group's faults.

    >>> kills = faults("1 kills")
    >>> @kills("SIGKILL of the run", "resumes", short=True)      # doctest: +SKIP
    ... def killed(lab): ...

    With ``cases``, the function gets a case as its second argument and its name is formatted with it;
    ``short`` may then be a set of cases.
    """

    def file(name: str, expect: str, *, short=False, cases: Iterable | None = None):
        def decorate(inject):
            if cases is None:
                FAULTS.append(Fault(group, name, expect, inject, bool(short)))
                return inject
            for case in cases:
                quick = case in short if isinstance(short, (set, list, tuple)) else bool(short)
                one = lambda lab, case=case: inject(lab, case)
                FAULTS.append(Fault(group, name.format(case=case), expect, one, quick))
            return inject

        return decorate

    return file


def judge(fault: Fault, lab: Lab) -> Verdict:
    """Inject a fault and say what became of it."""
    begun = time.monotonic()
    trace = ""
    try:
        result, seen = "ok", fault.inject(lab) or ""
    except NotHere as why:
        result, seen = "skipped", str(why)
    except (Exception, pytest.fail.Exception) as error:  # what pytest.raises raises is no Exception
        result = "LOST" if isinstance(error, Lost) else "WRONG"
        seen = str(error).strip().split("\n")[0] or type(error).__name__
        trace = traceback.format_exc()
    finally:
        lab.clear()
    return Verdict(fault, result, " ".join(seen.split()), time.monotonic() - begun, trace)
