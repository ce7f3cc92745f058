"""Traces for every problem: sampled with vLLM in rounds, or imported.

ray job submit --working-dir . -- python jobs/generate.py --config configs/demo.yaml storage.root=s3://bucket/runs
"""

import argparse

from redi_ray.cli.stage_commands import generate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="the experiment's YAML, local or s3://")
    parser.add_argument("overrides", nargs="*", help="changes to it, such as sft.train.epochs=2")
    arguments = parser.parse_args()
    generate(arguments.config, arguments.overrides)


if __name__ == "__main__":
    main()
