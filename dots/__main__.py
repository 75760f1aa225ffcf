"""``python -m dots`` is the ``dots`` command."""

from dots.cli.main import main

main()
