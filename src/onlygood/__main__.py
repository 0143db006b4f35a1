"""`python -m onlygood` is the command line, where its script is not on the path."""

from onlygood.cli import main

raise SystemExit(main())
