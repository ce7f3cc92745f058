"""From groups of samples to groups of one text each: wrong attempts, each verified and given up, then a right one. A task
for each shard of groups; a shard that is done is only counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import pyarrow as pa

from redi_ray.config.answers import AnswerSettings
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.self_verification import SelfVerifySettings
from redi_ray.data.curate.scan import spelling
from redi_ray.data.curate.work import finish, finished
from redi_ray.data.self_verify.examine import Checks, check_id, find_checks, read_checks
from redi_ray.data.shard_tasks import each_shard
from redi_ray.schemas import GROUP
from redi_ray.store import parquet, storage
from redi_ray.text.answers import extract_answer
from redi_ray.text.extract import split_thought
from redi_ray.text.prompts import strip_prefix
from redi_ray.text.self_verification import put_together

NO_RIGHT, TOO_MANY_WRONG, BY_CHANCE = "no_right_sample", "too_many_wrong", "by_chance"
"""Why a problem gives no text. A sample that has several turns, or is to be verified by a model and is not, is none here."""
ATTEMPTS = "attempts/"
"""Begins counts of texts by their attempts."""
Row = dict[str, Any]


@dataclass(frozen=True)
class SelfVerifying:
    """How, the same for every shard."""

    groups: str
    """Folder of the groups' shards."""
    out_uri: str
    settings: SelfVerifySettings
    prompt: PromptSettings
    answers: AnswerSettings
    """How the answers of attempts are read, of which each wrong one stands in a text once."""
    checks: tuple[str, ...] | None = None
    """Shards of verified samples of `examine`'s problems; None where the settings say what verifications are."""


def self_verify(names: list[str], how: SelfVerifying) -> Counter[str]:
    """Write `groups` (GROUP, one member each) for the shards of these names; the counts: `in = out + sum(reasons)`, and texts by
    their number of attempts."""
    import ray

    counts: Counter[str] = Counter()
    if how.checks is not None and names:
        find = ray.remote(num_cpus=1, max_retries=2)(find_checks)
        ray.get(find.remote(names, how.groups, how.checks, how.out_uri))
    for _, found in each_shard(names, self_verify_shard, how):
        counts.update(found)
    return counts


def self_verify_shard(name: str, how: SelfVerifying) -> Counter[str]:
    """One shard."""
    mark = storage.join(how.out_uri, "work", f"{name}.json")
    if (known := finished(mark)) is not None:
        return known
    counts: Counter[str] = Counter()
    checks = None if how.checks is None else read_checks(name, how.checks, how.out_uri)
    with parquet.table_writer(storage.join(how.out_uri, "groups", name), GROUP) as write:
        for batch in parquet.read_batches(storage.join(how.groups, name), GROUP.names):
            made = [self_verified(row, how, checks) for row in batch.to_pylist()]
            counts.update(["in"] * len(made))
            counts.update(one if isinstance(one, str) else "out" for one in made)
            texts = [one for one in made if not isinstance(one, str)]
            counts.update(f"{ATTEMPTS}{len(one['members'][0]['spans']) + 1}" for one in texts)
            write(pa.Table.from_pylist(texts, schema=GROUP))
    return finish(mark, counts)


def self_verified(group: Mapping[str, Any], how: SelfVerifying, checks: Checks | None = None) -> Row | str:
    """The group's text as a row of GROUP, or why it has none. Spans with the value 0 are its wrong attempts."""
    settings, drawn = how.settings, Random(f"{how.settings.seed}/{group['group_id']}")
    attempts = [*attempts_of(group, how, checks)]
    right = [one for one in attempts if one.right]
    wrong = sum(member["side"] < 0 for member in group["members"])
    chain = next((chain for chain in settings.chains if wrong <= chain.wrong), None)
    if not right:
        return NO_RIGHT
    if chain is None:
        return TOO_MANY_WRONG
    others: dict[str, Attempt] = {}
    for one in drawn.sample(attempts, len(attempts)):
        if not one.right and one.answer:
            others.setdefault(spelling(one.answer) or one.answer, one)
    last = drawn.choice(right)
    used = [*[*others.values()][: chain.attempts - 1], last]
    if len(used) == chain.attempts and drawn.random() >= chain.share:
        return BY_CHANCE
    return {**group, "members": [_member(used, how, drawn)]}


@dataclass(frozen=True)
class Attempt:
    """A sample, and what may verify it."""

    text: str
    right: bool
    answer: str | None
    says: list[str]


def attempts_of(group: Mapping[str, Any], how: SelfVerifying, checks: Checks | None) -> Iterator[Attempt]:
    """The samples of one turn that can be verified. checks: of each sample, by a model."""
    settings = how.settings
    for at, member in enumerate(group["members"]):
        texts, right = [turn["content"] for turn in member["turns"]], member["side"] > 0
        if len(texts) != 1:
            continue
        answer = extract_answer(texts[0], how.answers)
        if checks is None:
            templates = settings.says_right if right else settings.says_wrong
            says = [template.format(answer=answer or "") for template in templates]
        else:
            found = [_spoken(text, how) for text in checks.get(check_id(group["group_id"], at), ())]
            says = [text for text in found if text and settings.form.says_right(text, last=not right) is right]
        if says:
            yield Attempt(texts[0], right, answer, says)


def _spoken(verification: str, how: SelfVerifying) -> str:
    """What a model says behind its thoughts."""
    return split_thought(strip_prefix(verification, how.prompt) or verification)[0].strip()


def _member(attempts: list[Attempt], how: SelfVerifying, drawn: Random) -> Row:
    """The last attempt is right."""
    said = [drawn.choice(attempt.says) for attempt in attempts]
    bodies = [attempt.text for attempt in attempts]
    bodies[1:] = [strip_prefix(text, how.prompt) or text for text in bodies[1:]]
    text, places = put_together(bodies, said, how.settings.form)
    spans = [{"turn": 0, "start": start, "end": end, "value": 0.0} for start, end in places[:-1]]
    turn = {"role": "assistant", "content": text}
    return {"turns": [turn], "side": 1, "reward": 1.0, "finished": True, "spans": spans}
