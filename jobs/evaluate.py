"""Scores of every model on the benchmarks.

ray job submit --working-dir . -- python jobs/evaluate.py --config configs/demo.yaml storage.root=s3://bucket/runs
"""

import argparse

from redi_ray.cli.entry import run_stages


def describe(manifests: dict) -> str:
    """Where each model's output is."""
    return "\n".join(f"{name}: {manifest.uri}" for name, manifest in manifests.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="the experiment's YAML, local or s3://")
    parser.add_argument("--arm", action="append", help="base, sft or an arm of stage 2; again for several")
    parser.add_argument("overrides", nargs="*", help="changes to it, such as sft.train.epochs=2")
    arguments = parser.parse_args()
    run_stages(
        arguments.config, arguments.overrides, lambda pipeline: describe(pipeline.evaluate(arguments.arm or None))
    )


if __name__ == "__main__":
    main()
