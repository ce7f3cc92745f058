"""A search over hyper-parameters, from the `search` section of a config.

ray job submit --working-dir . -- python jobs/tune.py --config configs/search_demo.yaml storage.root=s3://bucket/runs
"""

import argparse

from redi_ray.cli.tune import tune_experiment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="the experiment's YAML, local or s3://")
    parser.add_argument("overrides", nargs="*", help="changes to it, such as search.max_concurrent_trials=4")
    arguments = parser.parse_args()
    tune_experiment(arguments.config, arguments.overrides)


if __name__ == "__main__":
    main()
