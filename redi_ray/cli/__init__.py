"""The command line: one file per command."""

import gc


def main() -> None:
    """Entry point of the `redi-ray` script."""
    # thousands of objects are made while modules load, and all stay: looking through them again and again is a tenth of the wait
    gc.set_threshold(50_000, 20, 20)
    from redi_ray.cli.app import main as run

    run()
