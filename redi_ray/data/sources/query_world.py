"""The built-in world of queries: what people call things, and what a catalogue calls them.

A document of the catalogue names a thing by one word of every slot: what it is, its colour, what it is made of, where it stands.
A problem is a query for such a thing in somebody's own words, some of which the catalogue never uses, so that a search by words
finds little. A solution is the query in the catalogue's words, in the form of Rec-R1 and without a thought:

    crimson couch oak  ->  <think>
                           </think><answer>{"query": "red sofa oak"}</answer>

What should be found, the answer of a problem, is every document that holds all of what was meant, as a JSON list of ids. A share
of people's words carries a misconception, another word of the slot, which a corpus solution falls for with some probability; now
and then it takes a word over as it is, or breaks the form.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from redi_ray.config.prompts import END_THINK, THINK
from redi_ray.config.worlds import QuerySource

SLOTS: dict[str, str] = {
    "thing": "sofa:couch settee,lamp:light lantern,rug:carpet mat,desk:bureau workbench,stool:perch taboret,"
    "mirror:glass reflector,shelf:rack ledge,chest:trunk coffer,clock:timer watch,vase:urn jar",
    "colour": "red:crimson scarlet,blue:azure navy,green:olive emerald,grey:ashen silver,white:ivory snowy,black:ebony jet,"
    "brown:tan umber,pink:rose salmon",
    "matter": "oak:acorn timber,steel:iron metal,cotton:cloth linen,leather:hide skin,marble:stone granite,bamboo:cane reed",
    "place": "hall:lobby entry,study:office den,kitchen:pantry galley,garden:yard lawn,attic:loft garret,porch:deck stoop",
}
"""Slot -> the catalogue's words, each with what people say for it."""
ALPHABET = 'abcdefghijklmnopqrstuvwxyz :{}"<>/\n'
Meaning = tuple[str, ...]
"""Words of the catalogue, one each of some slots, in the order in which they are asked for."""


@dataclass(frozen=True)
class QueryWorld:
    """The catalogue, what people's words mean and are taken for, and the problem splits, all decided by the settings' seed."""

    documents: tuple[tuple[str, str], ...]
    """(id, text)."""
    misconceptions: dict[str, str]
    """What somebody says -> the catalogue's word that it is taken for."""
    train: tuple[str, ...]
    dev: tuple[str, ...]
    test: tuple[str, ...]


def vocabulary() -> dict[str, dict[str, list[str]]]:
    """Slot -> catalogue's word -> what people say for it."""
    entries = {slot: [entry.split(":") for entry in words.split(",")] for slot, words in SLOTS.items()}
    return {slot: {word: said.split() for word, said in found} for slot, found in entries.items()}


@lru_cache(maxsize=1)
def meanings() -> dict[str, str]:
    """Every word that may be in a query -> the catalogue's."""
    found = dict[str, str]()
    for words in vocabulary().values():
        for word, said in words.items():
            found |= {word: word} | dict.fromkeys(said, word)
    return found


@lru_cache(maxsize=4)
def build_query_world(source: QuerySource) -> QueryWorld:
    """The world of these settings. Splits are disjoint; test and dev do not change when more problems are asked for."""
    generator, slots = random.Random(f"facts-{source.seed}"), vocabulary()
    said = [(word, own, slot) for slot, words in slots.items() for own, all_said in words.items() for word in all_said]
    chosen = sorted(generator.sample(said, round(source.misconception_share * len(said))))
    wrong = {word: generator.choice([other for other in slots[slot] if other != own]) for word, own, slot in chosen}
    texts = dict.fromkeys(" ".join(_thing(generator)) for _ in range(source.num_documents))
    documents = tuple((f"d{number}", text) for number, text in enumerate(texts))
    queries = _distinct_queries(source, documents)
    take = lambda count: tuple(next(queries) for _ in range(count))  # noqa: E731
    test, dev = take(source.num_test), take(source.num_dev)
    return QueryWorld(documents, wrong, train=take(source.num_problems), dev=dev, test=test)


def query_corpus(source: QuerySource, size: int) -> Iterator[tuple[str, str]]:
    """The unfiltered corpus the base model learns from: (problem, completion), misconceptions included. None of its problems is
    in dev or test."""
    world = build_query_world(source)
    held_out = {*world.dev, *world.test}
    generator = random.Random(f"corpus-{source.seed}")
    while size:
        problem = _query(source, generator, " ".join(_thing(generator)))
        if problem not in held_out:
            yield problem, solve(problem, world, generator, source)
            size -= 1


def answer(source: QuerySource, problem: str) -> str:
    """Ids of the documents that hold all that is meant, as a JSON list."""
    meant = {meanings()[word] for word in problem.split()}
    return json.dumps([name for name, text in build_query_world(source).documents if meant <= set(text.split())])


def solve(problem: str, world: QueryWorld, generator: random.Random, source: QuerySource) -> str:
    """A solution, falling for each misconception that it meets with the given probability."""
    taken = []
    for word in problem.split():
        found = meanings()[word]
        if word in world.misconceptions and generator.random() < source.misconception_rate:
            found = world.misconceptions[word]
        elif generator.random() < source.careless_rate:
            found = word
        taken.append(found)
    query = " ".join(taken)
    written = f'{{"query": "{query}"}}' if generator.random() >= source.careless_rate else query
    return f"{THINK}\n{END_THINK}<answer>{written}</answer>"


def _thing(generator: random.Random) -> Meaning:
    return tuple(generator.choice(list(words)) for words in vocabulary().values())


def _query(source: QuerySource, generator: random.Random, text: str) -> str:
    """What somebody might ask for who means this document."""
    own = text.split()
    named = generator.sample(own, generator.randint(source.min_words, source.max_words))
    words = {word: said for slot in vocabulary().values() for word, said in slot.items()}
    return " ".join(
        generator.choice(words[word]) if generator.random() < source.foreign_share else word for word in named
    )


def _distinct_queries(source: QuerySource, documents: tuple[tuple[str, str], ...]) -> Iterator[str]:
    """Problems, each once. Raises ValueError when the settings ask for more than there are."""
    generator, seen = random.Random(f"problems-{source.seed}"), set[str]()
    asked, tries = source.num_problems + source.num_dev + source.num_test, 0
    while True:
        problem, tries = _query(source, generator, generator.choice(documents)[1]), tries + 1
        if tries > 20 * asked + 1000:
            raise ValueError(
                f"problems.source asks for {asked} distinct queries, and {len(seen)} were found: raise num_documents or max_words"
            )
        if problem not in seen:
            seen.add(problem)
            yield problem
