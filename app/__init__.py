"""The desktop shell: server, window, command line. Never imports torch, transformers or numpy."""
