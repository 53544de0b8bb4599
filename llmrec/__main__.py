"""`python -m llmrec` is `llmrec`."""

import sys

from llmrec.cli import main

sys.exit(main())
