"""The records of a fault and of its result, and the function that injects it.

A fault is a function of a `workspace.Workspace`. It injects a failure into the real programs, checks what
must hold, and returns its observations in a few words. It raises `Lost` if finished work is gone, any other
exception if something is wrong, and `NotAvailable` if this machine cannot inject it.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.faults.workspace import Workspace


class Lost(AssertionError):
    """Finished work is gone or changed."""


class NotAvailable(Exception):
    """The fault cannot be injected on this machine; the message says why."""


@dataclass(frozen=True)
class Fault:
    """One injected fault.

    Attributes:
        group: number and name of its kind, e.g. ``1 kills``.
        name: what is injected.
        expect: the required result.
        inject: injects and checks it; returns the observations.
        short: whether it is part of the short form, most of which `make test` runs.
    """

    group: str
    name: str
    expect: str
    inject: Callable[[Workspace], str | None]
    short: bool = False


@dataclass(frozen=True)
class Verdict:
    """The result of a fault: ``ok``, ``LOST``, ``WRONG`` or ``skipped``, and the observations."""

    fault: Fault
    result: str
    seen: str
    seconds: float
    trace: str = ""


FAULTS: list[Fault] = []


def faults(group: str):
    """A decorator that registers the faults of a group.

    >>> kills = faults("1 kills")
    >>> @kills("SIGKILL of the run", "resumes", short=True)      # doctest: +SKIP
    ... def killed(work): ...

    With ``cases``, one fault is registered per case: the function gets the case as its second argument, and
    the name is formatted with it; ``short`` may then be a set of cases.
    """

    def file(name: str, expect: str, *, short=False, cases: Iterable | None = None):
        def decorate(inject):
            if cases is None:
                FAULTS.append(Fault(group, name, expect, inject, bool(short)))
                return inject
            for case in cases:
                is_short = case in short if isinstance(short, (set, list, tuple)) else bool(short)

                def one(work, case=case):
                    return inject(work, case)

                FAULTS.append(Fault(group, name.format(case=case), expect, one, is_short))
            return inject

        return decorate

    return file


def inject_fault(fault: Fault, work: Workspace) -> Verdict:
    """Inject a fault, clear the workspace, and return the verdict."""
    started = time.monotonic()
    trace = ""
    try:
        result, seen = "ok", fault.inject(work) or ""
    except NotAvailable as why:
        result, seen = "skipped", str(why)
    except (Exception, pytest.fail.Exception) as error:  # pytest.raises raises a BaseException
        result = "LOST" if isinstance(error, Lost) else "WRONG"
        seen = str(error).strip().split("\n")[0] or type(error).__name__
        trace = traceback.format_exc()
    finally:
        work.clear()
    return Verdict(fault, result, " ".join(seen.split()), time.monotonic() - started, trace)
