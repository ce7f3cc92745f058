"""The world of queries: its own words find nothing of what others call it, and the catalogue's find exactly what is meant."""

from __future__ import annotations

import json
from collections import Counter
from statistics import fmean

import pytest

from redi_ray.config.load import ConfigError, parse_config
from redi_ray.config.worlds import QuerySource
from redi_ray.data.score.retrieval import Index
from redi_ray.data.sources.built_in import alphabet_of, answer_of, corpus_of, documents_of, splits_of
from redi_ray.data.sources.query_world import meanings, vocabulary
from redi_ray.text.retrieval import ndcg, read_query

SOURCE = QuerySource(num_problems=200, num_test=100, num_dev=50)


def test_every_word_has_one_meaning():
    """So that a query says what is meant, and a search finds words of its own slot alone."""
    said = [word for slot in vocabulary().values() for own, words in slot.items() for word in (own, *words)]
    assert [word for word, count in Counter(said).items() if count > 1] == []
    assert len(meanings()) == len(said)


def test_translated_queries_find_what_is_meant_and_others_do_not():
    index = Index.build(iter(documents_of(SOURCE)), 1.2, 0.75)
    raw, right = [], []
    for problem in splits_of(SOURCE).test:
        wanted = json.loads(answer_of(SOURCE, problem))
        assert wanted
        raw.append(ndcg(index.search(problem, 100), wanted, 100))
        meant = " ".join(meanings()[word] for word in problem.split())
        right.append(ndcg(index.search(meant, 100), wanted, 100))
    assert fmean(right) == 1
    assert fmean(raw) < 0.4


def test_the_corpus_goes_wrong_in_the_same_way_and_sees_no_test_problem():
    world, wrong = splits_of(SOURCE), Counter[str]()
    held_out, seen = {*world.test, *world.dev}, 0
    for problem, turns in corpus_of(SOURCE, 600):
        text = turns[0]["content"]
        assert problem not in held_out
        assert set(text.replace("think>", "")) <= set(alphabet_of(SOURCE))
        seen += read_query(text) is not None
        for word, found in zip(problem.split(), (read_query(text) or problem).split(), strict=True):
            if found not in (meanings()[word], word):
                assert world.misconceptions[word] == found
                wrong[word] += 1
    assert 0.9 < seen / 600 < 1
    assert len(wrong) > 10
    more = splits_of(SOURCE.model_copy(update={"num_problems": 300}))
    assert (more.test, more.dev, more.train[:200]) == (world.test, world.dev, world.train)


def test_scorers_that_do_not_fit_are_told():
    """Told before anything starts, for a step and for an evaluation."""
    scorer, raw = {"name": "retrieval"}, {"name": "x", "problems": {"source": {"kind": "arithmetic"}}}
    step = {"do": "score", "of": "verified", "scorer": scorer}
    for more, field in (
        ({"steps": {"gain": step}}, "steps.gain.scorer"),
        ({"evaluate": {"score": scorer}}, "evaluate.score"),
    ):
        with pytest.raises(
            ConfigError, match=f"{field}.corpus names no files, and problems.source.kind is `arithmetic`"
        ):
            parse_config(raw | more)
        parse_config(raw | more | {"problems": {"source": {"kind": "queries"}}})
    for field in ("score", "rank_by"):
        with pytest.raises(ConfigError, match=f"{field} needs a number for each sample"):
            parse_config({"name": "x", "evaluate": {field: {"name": "reward", "model": "sft", "at": "steps"}}})
        with pytest.raises(ConfigError, match=f"{field} needs a number for each sample"):
            parse_config({"name": "x", "evaluate": {field: {"name": "rule", "pattern": "a", "spans": True}}})
    with pytest.raises(ConfigError, match="min_words is larger than max_words"):
        parse_config({"name": "x", "problems": {"source": {"kind": "queries", "min_words": 4}}})
