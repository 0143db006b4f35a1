"""`python -m onlygood.cli`."""

import sys

from onlygood.cli import main

sys.exit(main())
