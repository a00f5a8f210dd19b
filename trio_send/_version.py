# The build reads the version from this file, so it holds nothing else.
__version__ = "0.1.0"
