"""`python -m vaegan` is `vaegan`."""

from vaegan.cli import main

if __name__ == "__main__":
    main()
