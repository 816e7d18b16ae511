"""``python -m custody.cli``: the command line where no script is installed."""

from custody.cli import main

main()
