"""People's first names, and the perturbation that gives them others."""

from __future__ import annotations

import random
import re

from redi_ray.config.perturb import Names
from redi_ray.text.variants import NotPerturbed, Perturbation, Problem

WOMEN = frozenset([
    "Abigail", "Alice", "Alicia", "Amanda", "Amelia", "Amy", "Andrea", "Angela", "Anita", "Ann", "Anna", "Anne", "Annie",
    "Barbara", "Beth", "Betty", "Brenda", "Carla", "Carol", "Caroline", "Catherine", "Christine", "Cindy", "Clara",
    "Claire", "Claudia", "Cynthia", "Danielle", "Deborah", "Denise", "Diana", "Diane", "Donna", "Doris", "Dorothy", "Ella",
    "Ellen", "Elizabeth", "Ellie", "Emily", "Emma", "Erica", "Erin", "Esther", "Eva", "Evelyn", "Fiona", "Gina", "Gloria",
    "Gwen", "Hannah", "Heather", "Helen", "Irene", "Isabella", "Jackie", "Janet", "Janice", "Jane", "Jasmine", "Jennifer",
    "Jenny", "Jessica", "Jill", "Joan", "Joanna", "Josephine", "Judith", "Judy", "Julia", "Julie", "Karen", "Kate",
    "Katherine", "Kathleen", "Kathy", "Katie", "Kayla", "Kelly", "Kim", "Kimberly", "Kristen", "Laura", "Lauren", "Leah",
    "Linda", "Lisa", "Lucy", "Lydia", "Maggie", "Mandy", "Margaret", "Maria", "Marie", "Marissa", "Martha", "Mary", "Megan",
    "Melanie", "Melissa", "Mia", "Michelle", "Mila", "Molly", "Monica", "Nancy", "Naomi", "Natalie", "Nicole", "Nina",
    "Nora", "Olivia", "Pamela", "Patricia", "Paula", "Priya", "Rachel", "Rebecca", "Rita", "Roberta", "Samantha", "Sandra",
    "Sara", "Sarah", "Sharon", "Sheila", "Sofia", "Sophia", "Sophie", "Stacy", "Stephanie", "Susan", "Suzanne", "Tanya",
    "Tara", "Teresa", "Tina", "Tracy", "Valerie", "Vanessa", "Vera", "Wendy", "Yolanda", "Zoe",
])  # fmt: skip
MEN = frozenset([
    "Aaron", "Adam", "Alan", "Albert", "Alex", "Alexander", "Alfred", "Andrew", "Andy", "Anthony", "Arnold", "Arthur",
    "Barry", "Ben", "Benjamin", "Bernard", "Bob", "Bobby", "Brad", "Brandon", "Brian", "Bruce", "Bryan", "Carl", "Carlos",
    "Charles", "Charlie", "Chris", "Christopher", "Colin", "Craig", "Daniel", "Danny", "Darren", "Dave", "David", "Dennis",
    "Derek", "Diego", "Donald", "Doug", "Douglas", "Edward", "Edwin", "Elliot", "Eric", "Ernest", "Ethan", "Eugene",
    "Felix", "Fernando", "Fred", "Gary", "George", "Gerald", "Gilbert", "Gordon", "Greg", "Gregory", "Harold", "Harry",
    "Henry", "Herbert", "Howard", "Hugh", "Ian", "Isaac", "Jack", "Jacob", "Jake", "James", "Jamal", "Jason", "Jeff",
    "Jeffrey", "Jeremy", "Jerome", "Jerry", "Jim", "Jimmy", "Joe", "Joel", "John", "Johnny", "Jonathan", "Jose", "Joseph",
    "Josh", "Joshua", "Juan", "Julian", "Justin", "Keith", "Ken", "Kenneth", "Kevin", "Kyle", "Larry", "Lawrence", "Leo",
    "Leon", "Leonard", "Leroy", "Liam", "Louis", "Lucas", "Luke", "Marcus", "Mario", "Martin", "Marvin", "Matt", "Matthew",
    "Michael", "Miguel", "Mike", "Mohamed", "Nathan", "Neil", "Nicholas", "Nick", "Noah", "Norman", "Oliver", "Oscar",
    "Owen", "Patrick", "Paul", "Pedro", "Peter", "Phil", "Philip", "Ralph", "Raymond", "Richard", "Rick", "Robert", "Roger",
    "Ron", "Ronald", "Russell", "Ryan", "Sam", "Samuel", "Scott", "Sean", "Seth", "Simon", "Stanley", "Stephen", "Steve",
    "Steven", "Ted", "Theodore", "Thomas", "Tim", "Timothy", "Toby", "Todd", "Tom", "Tommy", "Tony", "Travis", "Trevor",
    "Tyler", "Victor", "Vincent", "Walter", "Wayne", "William", "Zachary",
])  # fmt: skip
"""Names that are no places, months, things or words."""
WORD = re.compile(r"[^\W\d_]+|\S")


def _rename(problem: Problem, chance: random.Random, settings: Names) -> str:
    found = [word for word in dict.fromkeys(WORD.findall(problem.text)) if word in WOMEN or word in MEN]
    if not found:
        raise NotPerturbed("no_name")
    if any(re.search(rf"\b{name}\b", problem.answer) for name in found):
        raise NotPerturbed("answer_names_somebody")
    taken = set(WORD.findall(problem.text))
    names = {}
    for name in found:
        free = sorted((WOMEN if name in WOMEN else MEN) - taken)
        names[name] = chance.choice(free)
        taken.add(names[name])
    return WORD.sub(lambda match: names.get(match.group(), match.group()), problem.text)


def _renamed(problem: Problem, variant: str) -> str | None:
    """Word by word the texts are the same, but for names, each of which stands for one and the same name of its kind."""
    before, after = WORD.findall(problem.text), WORD.findall(variant)
    if len(before) != len(after) or WORD.sub("", problem.text) != WORD.sub("", variant):
        return "words_changed"
    names, back = dict[str, str](), dict[str, str]()
    for one, other in zip(before, after, strict=True):
        alike = one == other or (one in WOMEN and other in WOMEN) or (one in MEN and other in MEN)
        if not alike or names.setdefault(one, other) != other or back.setdefault(other, one) != one:
            return "names_mixed_up"
    return None if any(one != other for one, other in names.items()) else "words_changed"


NAMES = Perturbation(_rename, _renamed)
