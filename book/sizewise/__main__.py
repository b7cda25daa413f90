"""``python -m sizewise`` is the command line."""

from .cli.main import main

main()
