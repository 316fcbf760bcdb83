"""`python -m waypost` is the command line."""

from waypost.cli import main

if __name__ == "__main__":
    main()
