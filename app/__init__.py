"""The desktop shell: server, window, command line. Never imports torch, transformers or numpy."""

from importlib.metadata import version

__version__ = version("fettle")
