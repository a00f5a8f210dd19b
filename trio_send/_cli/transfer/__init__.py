"""`trio-send send` and `trio-send sink`: a file, or a stream of bytes, from one process to another."""
