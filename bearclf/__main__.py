"`python -m bearclf` is the `bearclf` command"
import sys
from .cli import main

sys.exit(main())
