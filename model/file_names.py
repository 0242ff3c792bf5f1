"""Names of the files by which a folder is known as a run, a cross-validation or an exported network."""

from pathlib import Path

from deiii.data.config.suggest import did_you_mean_path
from deiii.data.tools.os_errors import is_file

RUN = "run.json"  # file in a run folder
RUN_WEIGHTS = "best.safetensors"
CROSSVAL = "crossval.json"  # file in the folder of a cross-validation
EXPORT = "deiii.json"  # file in an exported folder
EXPORT_WEIGHTS = "model.safetensors"
RUNS = "runs"  # usual folder of runs


def near_network(folder: str | Path) -> str:
    """Return the end of a message that names a run or export like a missing one; empty if none is near.

    It is one beside the missing folder, or one in the folder `RUNS`.

    >>> near_network("runs/that-is-nowhere")
    ''
    """
    places = (Path(folder).parent, Path(RUNS))
    there = [other for place in places if place.is_dir() for other in sorted(place.iterdir())]
    networks = [other for other in there if is_file(other / RUN) or is_file(other / EXPORT)]
    return did_you_mean_path(folder, networks)
