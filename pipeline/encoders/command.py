"""``deiii encoders``: list the frozen encoders that have a name in deiii."""

from __future__ import annotations

import argparse

from deiii.data.command_line.entry import NOTHING_DONE
from deiii.data.config.words import add_command


def add_encoders_command(commands: argparse._SubParsersAction) -> None:
    """Add ``encoders`` to ``deiii``'s parser."""
    add_command(
        commands,
        "encoders",
        _encoders,
        help="list the frozen encoders of speech and face crops",
        description="Print the encoders that speech.encoder and appearance.encoder can name, also those of "
        "installed packages: size, licence, input, training data, and the emotion corpora in the training "
        "data. Instead of such a name, both settings accept the path of an ONNX file, the path of a model "
        "folder of transformers, or the name of such a model on the Hugging Face Hub (owner/name).",
        examples=["encoders"],
        when_stopped=NOTHING_DONE,
    )


def _encoders(args: argparse.Namespace) -> int:
    from deiii.data.encoders.statement import describe_table
    from deiii.data.encoders.table import encoders

    print(describe_table(list(encoders().values())))
    return 0
