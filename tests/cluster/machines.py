"""Simulated machines: connected network namespaces, or processes on the loopback interface.

With namespaces each machine has its own host name, network interface and address; it can be
disconnected, and a folder can be hidden from it. This needs Linux, ``ip`` and user namespaces, but not root.
Without them a machine is a process on loopback, which is stopped instead of disconnected.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OWN = ["unshare", "--user", "--map-root-user", "--net", "--mount"]
PROBE = "ip link add name probe0 type bridge && ip link add name probe1 type veth peer name probe2"


def why_unavailable() -> str:
    """The reason why network namespaces are not available here; empty if they are."""
    for tool in ("unshare", "nsenter", "ip"):
        if shutil.which(tool) is None:
            return f"no `{tool}` on this machine"
    done = subprocess.run([*OWN, "sh", "-c", PROBE], capture_output=True, text=True)
    message = done.stderr.strip().splitlines()
    return "" if done.returncode == 0 else f"not permitted: {message[-1] if message else done.returncode}"


def enter_namespace(words: list[str]) -> None:
    """Replace this process by one with a network of its own."""
    os.execvp("unshare", [*OWN, sys.executable, "-m", "tests.cluster", *words])


class Loopback:
    """Machines that are processes on 127.0.0.1; disconnecting one stops its processes."""

    kind = "processes on loopback"
    can_hide = False

    def __init__(self, logs: Path):
        self.logs, self.running = logs, {}
        logs.mkdir(parents=True, exist_ok=True)

    @property
    def hub(self) -> str:
        """The address at which the machines reach this process."""
        return "127.0.0.1"

    def address(self, machine: str) -> str:
        return "127.0.0.1"

    def card(self) -> str:
        """The network interface of a machine."""
        return "lo"

    def start(self, machine: str, *command: str, hide: Path | None = None, **env: str) -> subprocess.Popen:
        """Start a command on a machine; its output goes to a file."""
        log = open(self.logs / f"{machine}.txt", "a")  # noqa: SIM115 - closed below
        environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **env}
        process = subprocess.Popen(
            self._command_on(machine, list(command), hide), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            env=environ, cwd=ROOT, start_new_session=True,
        )  # fmt: skip
        log.close()
        self.running[machine] = process
        return process

    def output(self, machine: str) -> str:
        return (self.logs / f"{machine}.txt").read_text(errors="replace")

    def _command_on(self, machine: str, command: list[str], hide: Path | None) -> list[str]:
        return command

    def disconnect(self, machine: str) -> None:
        """Interrupt the connection between this machine and the others."""
        os.killpg(self.running[machine].pid, signal.SIGSTOP)

    def reconnect(self, machine: str) -> None:
        os.killpg(self.running[machine].pid, signal.SIGCONT)

    def stop(self, machine: str, how: int = signal.SIGTERM, patience: float = 30) -> None:
        """End the processes on a machine."""
        process = self.running.pop(machine)
        for number in (how, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
                process.wait(patience)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue

    def close(self) -> None:
        for machine in list(self.running):
            self.stop(machine, signal.SIGKILL)


class Namespaces(Loopback):
    """Machines that are network namespaces on one bridge; this process is the hub (`enter_namespace`)."""

    kind = "network namespaces"
    can_hide = True

    def __init__(self, logs: Path):
        super().__init__(logs)
        self.holders: dict[str, subprocess.Popen] = {}
        _ip("link", "set", "lo", "up")
        _ip("link", "add", "name", "hub", "type", "bridge")
        _ip("addr", "add", "10.77.0.1/24", "dev", "hub")
        _ip("link", "set", "hub", "up")

    @property
    def hub(self) -> str:
        return "10.77.0.1"

    def address(self, machine: str) -> str:
        self._machine(machine)
        return f"10.77.0.{10 + list(self.holders).index(machine)}"

    def card(self) -> str:
        return "card"

    def _machine(self, machine: str) -> str:
        """The id of the process that holds a machine's namespaces; makes the machine if there is none yet."""
        if machine not in self.holders:
            words = ["unshare", "--net", "--uts", "sh", "-c", f"hostname {machine}; exec sleep infinity"]
            holder = self.holders[machine] = subprocess.Popen(words)
            pid, own = str(holder.pid), os.readlink("/proc/self/ns/net")
            while os.readlink(f"/proc/{pid}/ns/net") == own or b"sleep" not in _command(pid):
                time.sleep(0.01)
            cable = f"to-{machine}"
            _ip("link", "add", "name", cable, "type", "veth", "peer", "name", "card", "netns", pid)
            _ip("link", "set", cable, "master", "hub", "up")
            inside = ["nsenter", "-t", pid, "-n", "ip"]
            for more in (
                ["addr", "add", f"{self.address(machine)}/24", "dev", "card"],
                ["link", "set", "card", "up"],
                ["link", "set", "lo", "up"],
            ):
                subprocess.run([*inside, *more], check=True)
        return str(self.holders[machine].pid)

    def _command_on(self, machine: str, command: list[str], hide: Path | None) -> list[str]:
        inside = ["nsenter", "-t", self._machine(machine), "-n", "-u"]
        if hide is None:
            return [*inside, *command]
        empty = 'mount -t tmpfs none "$0" && exec "$@"'
        return [*inside, "unshare", "--mount", "sh", "-c", empty, str(hide), *command]

    def disconnect(self, machine: str) -> None:
        _ip("link", "set", f"to-{machine}", "down")

    def reconnect(self, machine: str) -> None:
        _ip("link", "set", f"to-{machine}", "up")

    def close(self) -> None:
        super().close()
        for holder in self.holders.values():
            holder.kill()
            holder.wait()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _command(pid: str) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()
