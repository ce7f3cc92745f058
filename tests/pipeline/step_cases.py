"""Every kind of named step, with other values of each of its fields: what `test_step_keys.py` changes."""

from __future__ import annotations

from typing import Any

SERVED = {"base_url": "http://a/v1", "model": "m"}
JUDGE: dict[str, Any] = {"kind": "judge", "endpoint": SERVED}
ASK = "Of {problem}, which of {steps} is wrong?"
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "select, by rate": (
        {"do": "select", "of": "verified", "difficulty": {"max_rate": 0.5}},
        {"of": "own_math", "by": "own_math", "difficulty": {"max_rate": 0.4}, "difficulty.model": "m",
         "difficulty.min_samples": 2, "difficulty.min_rate": 0.1, "difficulty.max_rate": 0.6},
    ),
    "select, by rounds": (
        {"do": "select", "of": "verified", "rounds": {"more_than": 1}},
        {"rounds.more_than": 2, "rounds.at_most": 3, "rounds.never": False, "rounds.samples": 2, "rounds.model": "m"},
    ),
    "select, by chance": (
        {"do": "select", "of": "verified", "random": {"problems": 3}},
        {"random.problems": 4, "random.seed": 1, "random": {"like": "own_math"}, "random.rest": True},
    ),
    "select, diverse": (
        {"do": "select", "of": "verified", "diverse": {"problems": 3}},
        {"of": "own_math", "diverse.problems": 4, "diverse.by": "farthest", "diverse.seed": 1, "diverse": {"like": "own_math"},
         "diverse.embedder": {"name": "words", "dimensions": 8}},
    ),
    "select, diverse, by a model": (
        {"do": "select", "of": "verified", "diverse": {"problems": 3, "embedder": {"name": "model", "path": "FOLDER"}}},
        {"diverse.embedder": {"name": "model", "path": "OTHER_FOLDER"}, "diverse.embedder.pooling": "cls",
         "diverse.embedder.prefix": "query: ", "diverse.embedder.max_tokens": 99},
    ),
    "select, balanced": (
        {"do": "select", "of": "verified", "balance": {}}, {"balance.needs": "both", "balance.seed": 1},
    ),
    "select, by a column": (
        {"do": "select", "of": "verified", "by": "length", "keep": {"per_problem": 2}},
        {"by": "ruled", "keep.order": "lowest", "keep.per_problem": 3, "keep.overall": 9, "keep.like": "own_math",
         "keep.at_least": 1.0, "keep.at_most": 9.0, "keep.verdicts": ["correct"], "keep.seed": 1},
    ),
    "score, length": (
        {"do": "score", "of": "verified", "scorer": {"name": "length"}}, {"of": "own_math", "scorer.unit": "tokens"},
    ),
    "score, rule": (
        {"do": "score", "of": "verified", "scorer": {"name": "rule", "pattern": "a"}},
        {"scorer.pattern": "b", "scorer.value": 2.0, "scorer.spans": True, "scorer": {"name": "rule", "format": {}}},
    ),
    "score, imported": (
        {"do": "score", "of": "verified", "scorer": {"name": "imported", "paths": ["FILE"]}},
        {"scorer.paths": ["OTHER"], "scorer.trace_id": "id", "scorer.value": "b"},
    ),
    "score, retrieval": (
        {"do": "score", "of": "verified", "scorer": {"name": "retrieval", "corpus": ["FILE"]}},
        {"scorer.corpus": ["OTHER"], "scorer.id": "key", "scorer.text": "body", "scorer.measure": "recall", "scorer.k": 10,
         "scorer.distinct": False, "scorer.format": False, "scorer.k1": 1.0, "scorer.b": 0.5, "scorer.bad_format": 0.0,
         "scorer.bonus": 0.0},
    ),
    "score, self_verification": (
        {"do": "score", "of": "verified", "scorer": {"name": "self_verification"}}, {"scorer.form": {"right": ["yes"]}},
    ),
    "self_verify": (
        {"do": "self_verify", "of": "grouped"},
        {"of": "others_grouped", "form": {"again": "Again:"}, "chains": [{"wrong": 3, "attempts": 2}],
         "says_right": ["It is correct."], "says_wrong": ["It is incorrect."], "seed": 1,
         "checks": "asked_math"},
    ),
    "examine": (
        {"do": "examine", "of": "grouped"},
        {"of": "others_grouped", "prompt": "Is {solution} right of {problem}?", "right": "yes", "wrong": "no"},
    ),
    "score, reward": (
        {"do": "score", "of": "verified", "scorer": {"name": "reward", "model": "rm", "at": "steps"}},
        {"scorer.model": "prm", "scorer.at": "worst_step", "scorer.form": "sentences",
         "scorer": {"name": "reward", "model": "FOLDER"}},
    ),
    "score, similarity": (
        {"do": "score", "of": "verified", "scorer": {"name": "similarity", "model": "sft", "to": "previous"}},
        {"scorer.model": "base", "scorer.to": "response", "scorer.form": "sentences", "scorer.temperature": 0.5,
         "scorer.negatives": 3, "scorer.seed": 1, "scorer": {"name": "similarity", "model": "FOLDER", "to": "previous"}},
    ),
    "score, alignment": (
        {"do": "score", "of": "verified", "scorer": {"name": "similarity", "model": "sft", "to": "response"}}, {"of": "own_math"},
    ),
    "score, step rewards": (
        {"do": "score", "of": "verified", "scorer": {"name": "step_rewards", "columns": {"judged": "value"}}},
        {"scorer.columns": {"judged": {"right": 1}}, "scorer.weights": "equal", "scorer.trajectory": "length"},
    ),
    "score, pass rate": (
        {"do": "score", "of": "verified", "scorer": {"name": "pass_rate", "samples": "posed_math"}},
        {"scorer.samples": "posed_others"},
    ),
    "score, said": (
        {"do": "score", "of": "verified", "scorer": {"name": "said", "samples": "posed_math"}},
        {"scorer.samples": "posed_others"},
    ),
    "score, trace reward": (
        {"do": "score", "of": "verified", "scorer": {"name": "trace_reward", "column": "judged"}},
        {"scorer.column": "marked", "scorer.alpha": 0.5},
    ),
    "locate, by lines": (
        {"do": "locate", "of": "verified", "locator": {"kind": "exact"}},
        {"of": "own_math", "ask": "all", "form": "sentences", "locator": JUDGE},
    ),
    "locate, judge": (
        {"do": "locate", "of": "verified", "locator": JUDGE},
        {"locator.neutral": "right", "locator.prompt": ASK, "locator.system": "s", "locator.max_tokens": 9,
         "locator.temperature": 0.5, "locator.top_p": 0.5, "locator.seed": 1, "locator.endpoint.model": "n",
         "locator.endpoint.omit": ["seed"], "locator.endpoint.extra_body": {"top_k": 1}},
    ),
    "locate, judge here": (
        {"do": "locate", "of": "verified", "locator": {"kind": "judge", "model": "FOLDER"}},
        {"locator.model": "OTHER_FOLDER", "locator.engine": {"device": "cpu", "dtype": "bfloat16"}},
    ),
    "locate, rollouts": (
        {"do": "locate", "of": "verified", "model": "sft", "locator": {"kind": "rollouts"}},
        {"model": "base", "locator.samples": 3, "locator.threshold": 0.1, "locator.search": "linear", "locator.temperature": 0.5,
         "locator.top_p": 0.5, "locator.max_tokens": 9, "locator.seed": 1},
    ),
    "locate, by a judge of its own": (
        {"do": "locate", "of": "verified", "model": "sft", "locator": {"kind": "step_judge"}},
        {"locator.question": {"numbered": False}, "locator.analyses": 3, "locator.average": "votes", "locator.threshold": 0.4,
         "locator.temperature": 0.5, "locator.top_p": 0.5, "locator.max_tokens": 9, "locator.seed": 1,
         "locator": {"kind": "step_judge", "analyses": 0, "opening": "<think>\nIs the step correct (Yes/No)?"}},
    ),
    "locate, imported": (
        {"do": "locate", "of": "verified", "locator": {"kind": "imported", "paths": ["FILE"]}},
        {"locator.paths": ["OTHER"], "locator.trace_id": "id", "locator.first_error": "first"},
    ),
    "groups": (
        {"do": "groups", "of": "verified", "scores": {"length": 1}},
        {"of": "own_math", "scores": {"length": 2}, "rewards": {"correct": 2}, "spans": "matches",
         "labels": {"right": 1, "wrong": -1}, "weights": {"column": "tokens"}, "frequent_answers": 0.5, "threshold": 0.5,
         "advantages": "group_mean",
         "min_rate": 0.1, "max_rate": 0.9,
         "both_sides": True, "least": 1, "most": 4, "margin": 0.5, "per_side": 1, "most_wrong": 1, "turns": {}, "seed": 1,
         "max_prompt_tokens": 9, "max_response_tokens": 9, "weights.side": "both", "weights.use": "value",
         "turns.least_calls": 2, "turns.most_turns": 3, "turns.error_words": ["no"], "turns.cut_off": True,
         "repeats": [{"below": 0.5, "times": 2}], "token_columns": {"one": "tokens"}, "span_baseline": 10,
         "span_factors": {"match": 2}},
    ),
    "groups that end behind their spans": (
        {"do": "groups", "of": "verified", "spans": "matches"},
        {"cut": True},
    ),
    "groups, repeated, with token columns": (
        {"do": "groups", "of": "verified", "repeats": [{"below": 0.5, "times": 2}], "token_columns": {"one": "tokens"}},
        {"repeats": [{"below": 0.5, "times": 3}], "token_columns": {"one": {"column": "tokens", "use": "running mean"}}},
    ),
    "logps": (
        {"do": "logps", "of": "verified", "model": "sft"}, {"of": "own_math", "model": "base", "verdicts": ["correct"]},
    ),
    "logps, stored": (
        {"do": "logps", "of": "drawn_math"}, {"of": "drawn", "model": "base", "verdicts": ["correct"]},
    ),
    "soft_targets": (
        {"do": "soft_targets", "of": "verified", "model": "teacher"},
        {"of": "own_math", "model": "sft", "top_k": 8, "verdicts": ["correct"]},
    ),
    "groups, with a teacher's distributions": (
        {"do": "groups", "of": "verified", "token_columns": {"soft_targets": "taught"}},
        {"token_columns": {"soft_targets": {"column": "taught", "side": "chosen"}}},
    ),
    "model": (
        {"do": "model", "init": {"kind": "pretrained", "path": "FOLDER"}},
        {"init": {"kind": "pretrained", "path": "OTHER_FOLDER"}},
    ),
    "model, of the built-in world": (
        {"do": "model", "init": {"kind": "arithmetic"}},
        {"init.architecture": {"hidden_size": 192}, "init.corpus_size": 7, "init.train": {"epochs": 3}},
    ),
    "train, on distributions": (
        {"do": "train", "from": "base", "on": "taught_groups", "objective": {"name": "js"}},
        {"objective.beta": 0.1, "objective.temperature": 2, "objective.rest": "renormalise", "objective.top_k": 3,
         "objective.normalization": "sequence_mean", "objective.nll_weight": 0.5},
    ),
    "check": (
        {"do": "check", "of": "verified", "column": "tokens", "to": "others"},
        {"column": "others", "to": "tokens", "max_difference": 0.1, "mean_difference": 0.1},
    ),
    "contrast": (
        {"do": "contrast", "of": "verified", "right": "sft", "wrong": "base"},
        {"of": "own_math", "right": "redi", "wrong": "redi", "beta": 0.5, "verdicts": ["no_answer"]},
    ),
    "rectify": (
        {"do": "rectify", "of": "verified", "at": "marked", "model": "sft"},
        {"model": "base", "verdicts": ["no_answer"], "labels": ["wrong"], "form": "sentences", "max_pairs": 3,
         "at": "judged"},
    ),
    "ask": (
        {"do": "ask", "of": "verified", "at": "marked"},
        {"at": "judged", "question": {"numbered": False}, "right": ["right", "unseen"], "wrong": ["wrong"],
         "part": {"up_to": 0.8}},
    ),
    "state": ({"do": "state", "problems": "problems", "text": "<think>\nIt is {answer}"}, {"text": "<think>\n{answer}"}),
    "pose": ({"do": "pose", "of": "verified"}, {"of": "own_math", "guides": "posed_own", "prompt": "{problem}"}),
    "hand_over": ({"do": "hand_over", "of": "own", "brief": "You want bread."}, {"of": "verified", "brief": "You want rolls."}),
    "compare": (
        {"do": "compare", "of": "verified", "column": "judged", "to": "marked"},
        {"column": "marked", "to": "judged", "threshold": 0.4, "part": {"up_to": 0.8}, "seed": 1},
    ),
    "reflect": (
        {"do": "reflect", "of": "verified"}, {"of": "own_math", "behaviours": {"wait": ["wait"]}},
    ),
    "perturb": (
        {"do": "perturb", "distractor": {}},
        {"problems": "posed", "traces": "verified", "distractor": {"sentences": ["It rained."]}, "order": {}, "numbers": {},
         "part": "dev", "originals": True, "changed": "keep", "seed": 1},
    ),
    "perturb, imported": (
        {"do": "perturb", "imported": {"paths": ["FILE"]}},
        {"imported.paths": ["OTHER"], "imported.group": "g", "imported.variant": "v", "imported.original": "o",
         "imported.problem": "p", "imported.answer": "a"},
    ),
    "paraphrase": (
        {"do": "paraphrase", "problems": "posed", "by": {"endpoint": SERVED}},
        {"problems": "asked", "by.prompt": "Ask {problem} again.", "by.system": "s", "by.max_tokens": 9, "by.temperature": 0.5,
         "by.top_p": 0.5, "by.seed": 1, "by.endpoint.model": "n", "judge": {"endpoint": {**SERVED, "model": "j"}},
         "same_numbers": False, "part": "dev", "originals": True},
    ),
    "paraphrase, here": (
        {"do": "paraphrase", "problems": "posed", "by": {"model": "FOLDER"}},
        {"by.model": "OTHER_FOLDER", "by.engine": {"device": "cpu", "dtype": "bfloat16"}, "judge": {"model": "OTHER_FOLDER"}},
    ),
    "robustness": (
        {"do": "robustness", "of": "varied_math"}, {"of": "varied_others", "to": "verified", "seed": 1},
    ),
    "critical": (
        {"do": "critical", "of": "verified", "column": "tokens", "model": "sft"},
        {"column": "others", "model": "base", "max_samples": 3, "max_tokens_each": 9, "later": 1, "seed_of_draw": 1},
    ),
    "pairs": (
        {"do": "pairs", "of": "verified"},
        {"of": "own_math", "chosen_of": "own_math", "weights": {"column": "tokens"}},
    ),
    "train": (
        {"do": "train", "from": "sft", "on": "curated", "objective": {"name": "dpo"}},
        {"from": "base", "on": "verified", "objective": {"name": "ipo"}, "objective.beta": 0.3, "train": {"epochs": 2}},
    ),
    "train, rehearsing": (
        {"do": "train", "from": "sft", "on": "curated", "objective": {"name": "redi"}, "rehearse": {"on": "curated"}},
        {"rehearse.on": "own_math", "rehearse.batch_size": 3, "rehearse.objective": {"name": "dph", "coefficient": 0.1}},
    ),
    "merge": ({"do": "merge", "of": {"sft": 1, "redi": 1}}, {"of": {"sft": 2, "redi": 1}}),
    "problems": (
        {"do": "problems", "source": {"kind": "files", "paths": ["FILE"]}},
        {"source.paths": ["OTHER"], "source.columns": {"problem": "text"}, "verified_by": "neither", "max_problems": 3},
    ),
    "mix": (
        {"do": "mix", "of": ["digits", "numbers"]},
        {"of": ["digits"], "weights": {"digits": 1, "numbers": 2}, "caps": {"digits": 3}, "epochs": {"numbers": 2}, "size": 9,
         "seed": 1},
    ),
    "grade": (
        {"do": "grade", "of": "verified", "by": "length", "right": 9.0}, {"by": "ruled", "right": 8.0, "wrong": 1.0},
    ),
    "sample": ({"do": "sample", "model": "sft"}, {"model": "base"}),
    "verify": ({"do": "verify", "of": "traces"}, {"of": "own"}),
}  # fmt: skip
"""A step, and fields with other values, dots leading into its sections. What another field turns on stands there as a whole."""
BESIDE: dict[str, Any] = {
    "own": {"do": "sample", "model": "sft"},
    "own_math": {"do": "verify", "of": "own"},
    "drawn": {"do": "sample", "model": "sft", "logprobs": True},
    "drawn_math": {"do": "verify", "of": "drawn"},
    "digits": {"do": "problems", "source": {"kind": "arithmetic"}},
    "numbers": {"do": "problems", "source": {"kind": "tool_arithmetic"}},
    "length": {"do": "score", "of": "verified", "scorer": {"name": "length"}},
    "ruled": {"do": "score", "of": "verified", "scorer": {"name": "rule", "pattern": "a"}},
    "grouped": {"do": "groups", "of": "verified", "least": 1},
    "asked": {"do": "examine", "of": "grouped"},
    "asked_own": {"do": "sample", "problems": "asked", "model": "sft"},
    "asked_math": {"do": "verify", "of": "asked_own"},
    "varied": {"do": "perturb", "order": {}, "originals": True},
    "varied_own": {"do": "sample", "problems": "varied", "model": "sft"},
    "varied_math": {"do": "verify", "of": "varied_own"},
    "varied_by_others": {"do": "sample", "problems": "varied", "model": "base"},
    "varied_others": {"do": "verify", "of": "varied_by_others"},
    "posed": {"do": "pose", "of": "verified"},
    "posed_own": {"do": "sample", "problems": "posed", "model": "sft"},
    "posed_math": {"do": "verify", "of": "posed_own"},
    "posed_by_others": {"do": "sample", "problems": "posed", "model": "base"},
    "posed_others": {"do": "verify", "of": "posed_by_others"},
    "others_grouped": {"do": "groups", "of": "own_math", "least": 1},
    "rm": {"do": "train", "from": "sft", "on": "curated", "objective": {"name": "bradley_terry"}},
    "prm": {"do": "train", "from": "sft", "on": "curated", "objective": {"name": "outcome_bce"}},
    "matches": {"do": "score", "of": "verified", "scorer": {"name": "rule", "pattern": "a", "spans": True}},
    "marked": {"do": "locate", "of": "verified", "locator": {"kind": "exact"}},
    "judged": {"do": "locate", "of": "verified", "locator": JUDGE},
    "tokens": {"do": "contrast", "of": "verified", "right": "sft", "wrong": "base"},
    "teacher": {"do": "model", "init": {"kind": "arithmetic"}},
    "taught": {"do": "soft_targets", "of": "verified", "model": "teacher"},
    "taught_groups": {"do": "groups", "of": "verified", "token_columns": {"soft_targets": "taught"}},
    "others": {"do": "contrast", "of": "verified", "right": "sft", "wrong": "redi"},
}
"""What the steps above take."""
SUITED = {
    "select, by a column": {"keep.seed": {"keep": {"per_problem": 2, "order": "random"}}},
    "groups": {"labels": {"spans": "marked", "labels": {"right": 1, "wrong": 0}},
               "of": {"scores": {}, "rewards": {"correct": 1}}, "weights.side": {"weights": {"column": "tokens"}},
               "weights.use": {"weights": {"column": "tokens"}}, "span_baseline": {"spans": "matches"},
               "span_factors": {"spans": "matches"},
               **{f"turns.{name}": {"turns": {}} for name in
               ("least_calls", "most_turns", "error_words", "cut_off")}},
}  # fmt: skip
"""What else is set, before and after, for a field to be set."""
HOW = [
    ("locate, judge", "locator.endpoint.base_url", "http://b/v1"), ("locate, judge", "locator.endpoint.max_in_flight", 3),
    ("locate, judge here", "locator.engine", {"device": "cpu", "batch_size": 9}), ("sample", "shard_rows", 9),
    ("sample", "engine", {"concurrency": 3}), ("rectify", "shard_rows", 9), ("verify", "processes", 2),
    ("verify", "cache_size", 9), ("verify", "batch_rows", 9), ("train", "train", {"checkpoint_every": 7}),
    ("train", "train", {"keep_last": 7}), ("select, by a column", "keep.seed", 7),
    ("score, alignment", "scorer.temperature", 7), ("score, alignment", "scorer.negatives", 7),
    ("score, alignment", "scorer.seed", 7), ("select, diverse, by a model", "diverse.embedder.engine", "vllm"),
    ("select, diverse, by a model", "diverse.embedder.device", "gpu"),
    ("select, diverse, by a model", "diverse.embedder.workers", 3),
    ("select, diverse, by a model", "diverse.embedder.batch_size", 3),
    ("problems", "licence", "mit"), ("mix", "when_short", "less"),
]  # fmt: skip
"""Fields that only say how the work is done, or that have no say there."""
