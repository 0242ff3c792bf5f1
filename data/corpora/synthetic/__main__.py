"""``python -m data.corpora.synthetic --root raw/synthetic speakers=24 task=cues``"""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields

from data.clips import CorpusError
from data.config import ConfigError, load_config
from data.corpora.synthetic.make import make
from data.schema import SyntheticConfig


def main(arguments: list[str] | None = None) -> int:
    """Draw the corpus; returns the exit status."""
    lines = [f"  {f.name}={f.default}  {f.metadata['help']}" for f in fields(SyntheticConfig)]
    parser = argparse.ArgumentParser(
        prog="python -m data.corpora.synthetic",
        description="Draw the synthetic corpus.",
        epilog="settings:\n" + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--root", help="folder to draw into (default: corpus.root)")
    parser.add_argument("--config", help="YAML file whose corpus section is read")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0 is one for each core")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="with or without corpus.synthetic.")
    given = parser.parse_args(arguments)
    own = {f.name for f in fields(SyntheticConfig)}
    overrides = [f"corpus.synthetic.{s}" if s.partition("=")[0] in own else s for s in given.settings]
    try:
        config = load_config(given.config or (), overrides)
        make(given.root or config.corpus.root, config.corpus.synthetic, given.workers, not given.quiet)
    except (ConfigError, CorpusError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
