"""`python -m bench.gpu`: the gate."""

import sys

from bench.gpu.gate import main

if __name__ == "__main__":
    sys.exit(main())
