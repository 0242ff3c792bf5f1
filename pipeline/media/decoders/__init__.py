"""Decoders other than FFmpeg's on the processor, and the deinterlacing of decoded frames."""
