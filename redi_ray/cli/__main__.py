"""`python -m redi_ray.cli`: what `redi-ray` does, where no script is installed."""

from redi_ray.cli import main

main()
