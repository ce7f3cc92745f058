"""Scores of every model on the benchmarks.

ray job submit --working-dir . -- python jobs/evaluate.py --config configs/demo.yaml storage.root=s3://bucket/runs
"""

import argparse

from redi_ray.cli.stage_commands import evaluate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="the experiment's YAML, local or s3://")
    parser.add_argument("--arm", action="append", help="base, sft or an arm of stage 2; again for several")
    parser.add_argument("overrides", nargs="*", help="changes to it, such as sft.train.epochs=2")
    arguments = parser.parse_args()
    evaluate(arguments.config, arguments.overrides, arguments.arm)


if __name__ == "__main__":
    main()
