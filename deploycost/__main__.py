"""`python -m deploycost`: the same as the `deploycost` command."""

import sys

from deploycost.cli import main

sys.exit(main())
