"""The faces stage: detection, tracking, alignment of the speaker's face."""
