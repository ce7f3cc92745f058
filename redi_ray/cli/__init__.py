"""The command line: one file per command."""


def main() -> None:
    """Entry point of the `redi-ray` script."""
    from redi_ray.cli.app import main as run

    run()
