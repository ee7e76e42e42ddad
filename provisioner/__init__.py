"""Every branch of a git repository gets isolated databases of its own, by itself."""

__version__ = "0.1.0"
