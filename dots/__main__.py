"""``python -m dots`` is the ``dots`` command."""

from dots.cli import main

main()
