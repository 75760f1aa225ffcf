"""The ``dots`` command."""
