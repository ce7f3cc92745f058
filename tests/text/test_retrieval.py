"""Ranking measures and Rec-R1's reward, against published results, worked examples, and a search engine's own run."""

from __future__ import annotations

import math
from statistics import fmean

import pytest

from redi_ray.text.retrieval import ndcg, precision, query_reward, read_query, recall, reciprocal_rank

GOOD = '<think>rift is a headset</think>\n<answer>{"query": "vr headset"}</answer>'


def test_by_hand():
    """Two of three at ranks 2 and 4; a single one at 3, and at 500, where k decides; repeats among the targets."""
    assert ndcg("xayc", "abc", 10) == pytest.approx(0.4981892575, abs=1e-10)
    assert ndcg("xya", "a", 10) == 0.5
    deep = [*map(str, range(499)), "a"]
    assert ndcg(deep, ["a"], 1000) == pytest.approx(0.1114992923, abs=1e-10)
    assert ndcg(deep, ["a"], 100) == 0
    assert ndcg("a", "aab", 10) == pytest.approx(0.613147, abs=1e-6)
    assert ndcg("a", "aab", 10, distinct=False) == pytest.approx(0.469279, abs=1e-6)
    assert ndcg("aab", "ab", 2) == pytest.approx(1 / (1 + 1 / math.log2(3))), "found twice gains once"
    assert (ndcg("abc", "", 3), ndcg("", "abc", 3)) == (0, 0)
    assert (recall("xayc", "abc", 2), recall("xayc", "abc", 4), recall("x", "", 4)) == (1 / 3, 2 / 3, 0)
    assert (reciprocal_rank("xayc", "abc"), reciprocal_rank("xy", "abc")) == (0.5, 0)
    with pytest.raises(ValueError, match="k must be >= 1"):
        ndcg("a", "a", 0)


def test_published_rankings_of_rewritten_queries(real_set):
    """Mean NDCG@100 of 103 queries as published, with repeated targets, and with each target once."""
    rows = real_set("esci_videogames_ranked")
    means = {
        arm["arm"]: [
            fmean(ndcg(row["rewrites"][number]["retrieved"], row["targets"], 100, distinct) for row in rows)
            for distinct in (False, True)
        ]
        for number, arm in enumerate(rows[0]["rewrites"])
    }
    assert means["original"] == pytest.approx([0.124355, 0.132714], abs=1e-6)
    assert means["gpt-4o"] == pytest.approx([0.260631, 0.273829], abs=1e-6)
    assert means["rec-r1"] == pytest.approx([0.322170, 0.335117], abs=1e-6)
    for row in rows:
        for rewrite in row["rewrites"]:
            assert ndcg(rewrite["retrieved"], row["targets"], 100, distinct=False) == pytest.approx(
                rewrite["ndcg@100"], abs=1e-9
            )


def test_a_search_engines_own_run(real_set):
    """Anserini's run on CACM: P@30 as it publishes it, where judged ids that lack zeros match nothing, and with them repaired."""
    rows = real_set("cacm")
    ranked = {row["id"]: [name for name, _ in row["ranked"]] for row in rows if row["kind"] == "run"}
    judged = {row["id"]: list(row["relevant"]) for row in rows if row["kind"] == "qrels"}
    shipped = {query: [name for name in names if "-0" not in name] for query, names in judged.items()}
    assert fmean(precision(ranked[query], shipped[query], 30) for query in judged) == pytest.approx(0.1942, abs=5e-5)
    assert fmean(precision(ranked[query], judged[query], 30) for query in judged) == pytest.approx(0.1981, abs=5e-5)
    assert fmean(ndcg(ranked[query], judged[query], 10) for query in judged) == pytest.approx(0.4604, abs=5e-5)
    assert fmean(ndcg(ranked[query], judged[query], 30) for query in judged) == pytest.approx(0.4643, abs=5e-5)
    assert fmean(reciprocal_rank(ranked[query], judged[query]) for query in judged) == pytest.approx(0.7048, abs=5e-5)


@pytest.mark.parametrize(
    "output",
    [
        "vr headset",
        GOOD.replace("</think>", ""),
        GOOD + "<answer>",
        GOOD.replace('"query"', '"text"'),
        GOOD.replace('"vr headset"', "7"),
        GOOD.replace('{"query": "vr headset"}', "vr headset"),
        GOOD.replace("vr headset", " "),
        '<answer>{"query": "a"}</answer><think>late</think>',
    ],
)
def test_an_output_of_another_form_is_punished(output):
    assert read_query(output) is None
    assert query_reward(output, 0.5) == -2


def test_rewards():
    assert read_query(GOOD) == "vr headset"
    assert query_reward(GOOD, 0.5) == 0.6
    assert query_reward(GOOD, 0.0) == query_reward(GOOD, None) == 0
