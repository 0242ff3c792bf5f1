"""Other networks on the same streams, trained and scored as DE-III is; `docs/peers.md` explains each."""
