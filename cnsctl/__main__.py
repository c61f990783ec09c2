"""`python -m cnsctl`."""

from cnsctl.cli.main import run

if __name__ == "__main__":
    run()
