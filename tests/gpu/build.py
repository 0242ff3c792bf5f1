"""Build the fake GPU and say how a process uses it.

    python -m tests.gpu.build /tmp/fake     # needs g++ and PyTorch's CUDA build; a minute

prints the environment of a process that runs on the fake GPU. README.md says what it can show.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).parent / "fake"
FLAGS = ["-O1", "-w", "-std=c++17", "-shared", "-fPIC"]


@dataclass(frozen=True)
class FakeGpu:
    """A machine with a fake GPU.

    Attributes:
        environment: variables of the processes that use it.
    """

    environment: dict[str, str]

    def run(self, module: str, *arguments: str, **knobs: str) -> dict[str, Any]:
        """Run ``tests.gpu.programs.<module>`` on the fake GPU; returns the JSON of its last line.

        Args:
            module: the program's name.
            arguments: of its command line.
            knobs: more environment variables, such as FAKE_GPU_GB; see README.md.
        """
        command = [sys.executable, "-m", f"tests.gpu.programs.{module}", *arguments]
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        limits = {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        environment = {**os.environ, **limits, **self.environment, **knobs}
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return json.loads(done.stdout.splitlines()[-1])


def missing() -> str | None:
    """Return why the fake GPU cannot be built here, or ``None`` where it can be."""
    import torch

    if torch.version.cuda is None:
        return f"needs PyTorch's CUDA build; this is {torch.__version__}"
    if torch.cuda.is_available():
        return "needs a machine without a GPU; the tests marked gpu use the real one"
    if shutil.which("g++") is None:
        return "needs a C++ compiler, g++"
    if not headers(torch.version.cuda):
        return f"needs the headers of CUDA {torch.version.cuda}, which Triton or nvidia-cuda-runtime bring"
    return None


def headers(version: str) -> list[Path]:
    """Return the folders of installed CUDA headers for PyTorch's CUDA; empty where there are none.

    Triton's may belong to another CUDA than PyTorch's, whose functions have other arguments: PyTorch 2.11 is
    built for CUDA 13, and its Triton 3.6 brings the headers of CUDA 12.8. Those of nvidia-cuda-runtime lack
    ``crt``, which is alike in all versions; the second folder has it.
    """
    major = version.partition(".")[0]
    found = importlib.util.find_spec("triton"), importlib.util.find_spec("nvidia")
    roots = [Path(root) for spec in found if spec for root in spec.submodule_search_locations or []]
    below = ("backends/nvidia/include", f"cu{major}/include", "cuda_runtime/include")
    folders = [root / place for root in roots for place in below]
    with_crt = [folder for folder in folders if (folder / "crt/host_defines.h").is_file()]
    for header in (folder / "cuda_runtime_api.h" for folder in folders):
        text = header.read_text(encoding="utf-8") if header.is_file() else ""
        defined = re.search(r"define\s+CUDART_VERSION\s+(\d+)", text)
        if with_crt and defined and int(defined[1]) // 1000 == int(major):
            return list(dict.fromkeys([header.parent, with_crt[0]]))
    return []


def build(folder: Path) -> dict[str, str]:
    """Compile the libraries into a folder; returns the environment variables of a process that uses them.

    Raises:
        subprocess.CalledProcessError: the compiler refuses the source.
    """
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    runtime = folder / "libfakegpu.so"
    sources = [SOURCE / "runtime.cpp", SOURCE / "libraries.cpp"]
    include = [f"-I{folder}" for folder in headers(torch.version.cuda or "")]
    compile_library(runtime, sources, include, ["-ldl", "-lpthread"])
    driver = folder / "libcuda.so.1"
    compile_library(driver, [SOURCE / "driver.cpp"], [], ["-ldl", f"-Wl,-soname,{driver.name}"])
    return {
        "LD_PRELOAD": str(runtime),
        "LD_LIBRARY_PATH": str(folder),
        "FAKE_GPU": str(runtime),
        "TRITON_LIBCUDA_PATH": str(folder),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
    }


def compile_library(target: Path, sources: list[Path], before: list[str], after: list[str]) -> None:
    """Compile C++ sources as one shared library."""
    subprocess.run(["g++", *FLAGS, *before, *map(str, sources), "-o", str(target), *after], check=True)


def main() -> None:
    reason = missing()
    if reason is not None:
        sys.exit(reason)
    for name, value in build(Path(sys.argv[1] if len(sys.argv) > 1 else "fake-gpu").resolve()).items():
        print(f"export {name}={value}")


if __name__ == "__main__":
    main()
