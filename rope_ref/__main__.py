import sys

from rope_ref.cli import main

sys.exit(main())
