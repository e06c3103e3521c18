"""``python -m grmu_sk``."""

from .cli import main

if __name__ == "__main__":
    main()
