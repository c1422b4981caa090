"""``python -m dtcwsi`` is the command line."""

from dtcwsi.cli.main import main

if __name__ == "__main__":
    main()
