"""Say which Python and Django run here, and fail if they are not the ones asked for."""

import platform
import sys

import django

python, wanted_django = sys.argv[1:]
print(f"Python {platform.python_version()}, Django {django.get_version()}")
if not platform.python_version().startswith(f"{python}."):
    sys.exit(f"wanted Python {python}")
if not django.get_version().startswith(f"{wanted_django}"):
    sys.exit(f"wanted Django {wanted_django}")
