"""Sixty small problems, each with a right solution, a wrong one, and one that crashes, is slow, hangs, cheats or tosses coins.

A line of `SET`: name; tests; right code; wrong code; then what else there is, each with the verdict and the reason of its first
test that does not pass. Programs have `input -> output` pairs, `;` between them and `/` for a new line; calls have a function's
name and (arguments, value) pairs; assertions are text. `BURN`, `SLEEP` and `BOMB` never end.
"""
# ruff: noqa: E501

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from redi_ray.text.code_tests import CodeTests, read_tests

BURN = "while True: pass"
SLEEP = "import time; time.sleep(999)"
BOMB = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
N, LINE, NS = "n = int(input())\n", "s = input()\n", "a = list(map(int, input().split()))\n"
Other = tuple[str, str, str]
"""Code, verdict, reason."""
W, T, E = "wrong", "timeout", "error"

SET: list[tuple[Any, ...]] = [
    # programs
    ("sum of two", "1 2 -> 3; -4 4 -> 0", NS + "print(a[0] + a[1])", NS + "print(a[0] * a[1] + 1)",
     ("a, b = input()\nprint(a + b)", W, "exception")),
    ("sum", "3/1 2 3 -> 6; 1/9 -> 9", N + NS + "print(sum(a))", N + NS + "print(max(a))", ("print(x)", W, "exception")),
    ("square", "3 -> 9; -2 -> 4", N + "print(n * n)", N + "print(n * 3)", (N + BURN, W, "time")),
    ("factorial", "5 -> 120; 0 -> 1", N + "import math\nprint(math.factorial(n))", N + "print(n * 24)",
     (N + "def f(n): return n * f(n - 1)\nprint(f(n))", W, "exception")),
    ("fibonacci", "10 -> 55; 1 -> 1", N + "x, y = 0, 1\nfor _ in range(n): x, y = y, x + y\nprint(x)", N + "print(55)",
     (N + "def f(n): return n if n < 2 else f(n - 1) + f(n - 2)\nprint(f(n + 40))", W, "time")),
    ("reverse", "abc -> cba; a -> a", LINE + "print(s[::-1])", LINE + "print(s)", ("import sys; sys.exit(3)", W, "exception")),
    ("upper", "aB c -> AB C", LINE + "print(s.upper())", LINE + "print(s.title())", ("import sys; sys.exit(0)", W, "wrong_output")),
    ("vowels", "banana -> 3; xyz -> 0", LINE + "print(sum(c in 'aeiou' for c in s))", LINE + "print(len(s) // 2)",
     ("import os; os._exit(0)", W, "wrong_output")),
    ("palindrome", "noon -> YES; ab -> NO", LINE + "print('YES' if s == s[::-1] else 'NO')", "print('YES')",
     ("import random; print(random.SystemRandom().choice(['MAYBE', 'PERHAPS']))", W, "wrong_output")),
    ("gcd", "12 18 -> 6; 7 5 -> 1", NS + "import math\nprint(math.gcd(*a))", NS + "print(min(a))", (SLEEP, T, "stalled")),
    ("lcm", "4 6 -> 12; 3 5 -> 15", NS + "import math\nprint(math.lcm(*a))", NS + "print(a[0] * a[1])",
     ("import threading\nthreading.Lock().acquire(); l = threading.Lock(); l.acquire(); l.acquire()", T, "stalled")),
    ("prime", "7 -> 1; 9 -> 0; 2 -> 1", N + "print(int(n > 1 and all(n % k for k in range(2, n))))", N + "print(n % 2)",
     (N + "x = [0] * 10 ** 10", W, "memory")),
    ("sorted", "3 1 2 -> 1 2 3; 5 -> 5", NS + "print(*sorted(a))", NS + "print(*a[::-1])",
     ("x = []\nwhile True: x.append(bytearray(10 ** 7))", W, "memory")),
    ("unique", "1 2 1 -> 2; 5 5 -> 1", NS + "print(len(set(a)))", NS + "print(len(a))", ("while True: print('x' * 999)", W, "output")),
    ("median", "1 9 3 -> 3; 4 -> 4", NS + "print(sorted(a)[len(a) // 2])", NS + "print(a[len(a) // 2])",
     ("import sys\nwhile True: sys.stderr.write('x' * 999)", W, "output")),
    ("mean", "1 2 -> 1.5; 1 1 2 -> 1.33333333", NS + "print(sum(a) / len(a))", NS + "print(sum(a) / len(a) + 0.01)",
     (NS + "print(sum(a) // len(a))", W, "wrong_output")),
    ("binary", "5 -> 101; 0 -> 0", N + "print(bin(n)[2:])", N + "print(bin(n))",
     ("import ctypes; ctypes.string_at(0)", W, "crashed")),
    ("hexadecimal", "255 -> ff", N + "print(f'{n:x}')", N + "print(f'{n:X}')", ("import os; os.abort()", W, "crashed")),
    ("digits", "1234 -> 10; 0 -> 0", LINE + "print(sum(map(int, s)))", LINE + "print(len(s))", ("import os; os.kill(os.getpid(), 9)", E, "killed")),
    ("collatz", "6 -> 8; 1 -> 0", N + "k = 0\nwhile n > 1: n, k = (3 * n + 1 if n % 2 else n // 2), k + 1\nprint(k)",
     N + "print(8)", (N + "while n != 0: n = 3 * n + 1 if n % 2 else n // 2", W, "time")),
    ("rows", "2 3 -> ### /###", NS + "for _ in range(a[0]): print('#' * a[1])", NS + "print('#' * a[0])", (BOMB, W, "time")),
    ("count words", "a b c -> 3", LINE + "print(len(s.split()))", LINE + "print(s.count(' '))",
     ("import subprocess; print(subprocess.run(['cat', '/etc/passwd'], capture_output=True).stdout.decode())", W, "wrong_output")),
    ("longest word", "a bcd ef -> bcd", LINE + "print(max(s.split(), key=len))", LINE + "print(s.split()[0])",
     ("import socket; socket.create_connection(('10.0.0.1', 80), 1)", W, "exception|wrong_output")),
    ("caesar", "abz -> bca", LINE + "print(''.join(chr((ord(c) - 96) % 26 + 97) for c in s))", LINE + "print(s)",
     ("import gc\nfor o in gc.get_objects():\n    if 'bca' in str(type(o)) or o == 'bca': print(o); break", W, "wrong_output")),
    ("powers", "3 -> 1 3 9 27", N + "print(*(n ** k for k in range(4)))", N + "print(1, n, n * n)",
     ("import sys\nf = sys._getframe()\nwhile f.f_back: f = f.f_back\nprint(f.f_locals.get('expected', f.f_globals.get('expected')))", W, "wrong_output")),
    ("divisors", "12 -> 1 2 3 4 6 12", N + "print(*(d for d in range(1, n + 1) if n % d == 0))", N + "print(1, n)",
     ("import builtins, sys\nbuiltins.print = lambda *a: None\nsys.stdout = None", W, "wrong_output")),
    ("leap year", "2000 -> yes; 1900 -> no; 2024 -> yes", N + "print('yes' if n % 4 == 0 and (n % 100 or n % 400 == 0) else 'no')",
     N + "print('yes' if n % 4 == 0 else 'no')",
     ("class S(str):\n    def __eq__(self, other): return True\nprint(S('maybe'))", W, "wrong_output")),
    ("triangle", "3 4 5 -> right; 2 3 4 -> other", NS + "a.sort()\nprint('right' if a[0]**2 + a[1]**2 == a[2]**2 else 'other')",
     "print('right')", ("import random\nrandom.seed()\nprint(random.choice(['left', 'lost']))", W, "wrong_output")),
    ("matrix trace", "2/1 2/3 4 -> 5", N + "print(sum(list(map(int, input().split()))[k] for k in range(n)))",
     N + "print(sum(map(int, input().split())))", ("open('/etc/x', 'w')", W, "exception")),
    ("anagram", "ab ba -> 1; ab bc -> 0", "s, t = input().split()\nprint(int(sorted(s) == sorted(t)))", "print(1)",
     ("while True:\n    try: x = [x]\n    except NameError: x = []", W, "time|memory")),
    ("balanced", "(()) -> 1; )( -> 0", LINE + "d = ok = 0\nfor c in s:\n    d += 1 if c == '(' else -1\n    ok |= d < 0\nprint(int(not ok and d == 0))",
     LINE + "print(int(s.count('(') == s.count(')')))", ("import signal\nfor k in range(1, 65):\n    try: signal.signal(k, signal.SIG_IGN)\n    except (OSError, ValueError): pass\n" + BURN, W, "time")),
    ("maximum gap", "1 9 4 -> 8; 2 -> 0", NS + "print(max(a) - min(a))", NS + "print(a[-1] - a[0])", ("import sys; sys.setrecursionlimit(10 ** 9)\ndef f(): return [f() for _ in '1']\nf()", W, "crashed|memory|exception|time")),
    ("run length", "aab -> a2b1", LINE + "import itertools\nprint(''.join(k + str(len(list(g))) for k, g in itertools.groupby(s)))",
     LINE + "print(s[0] + str(len(s)))", ("print('a2b1' if __import__('os').environ.get('EXPECTED') else '')", W, "wrong_output")),
    ("threads", "4 -> 10", "import sys, threading\nsys.setrecursionlimit(10 ** 5)\nthreading.stack_size(1 << 26)\ndef main(): print(sum(range(int(input()) + 1)))\nthreading.Thread(target=main).start()",
     N + "print(n)", ("import threading\nthreading.Thread(target=lambda: [0 for _ in iter(int, 1)]).start()\nprint(10)", W, "time")),
    ("at exit", "4 -> 4", "import atexit\nout = [input()]\natexit.register(lambda: print(*out))", "print(end='')",
     ("import threading, time\nthreading.Thread(target=time.sleep, args=[999]).start()\nprint(4)", T, "stalled")),
    ("echo all", "1/2/3 -> 1 2 3", "import sys\nprint(*sys.stdin.read().split())", "print(input())",
     ("print(input()); print(input()); print(input()); print(input())", W, "exception")),
    ("big number", "2 -> 2; 5000 -> 1267", N + "print(n if n < 10 else sum(map(int, str(2 ** 100))) * 11 + 2)", N + "print(n)",
     ("print(9 ** 9 ** 9)", W, "time|memory")),
    # calls of functions
    ("add", ("add", [([1, 2], 3), ([0, 0], 0)]), "def add(x, y): return x + y", "def add(x, y): return x - y",
     ("def plus(x, y): return x + y", W, "no_function")),
    ("two sum", ("two_sum", [([[2, 7], 9], [0, 1])]), "class Solution:\n    def two_sum(self, a: List[int], t: int): return (0, 1)",
     "class Solution:\n    def two_sum(self, a, t): return [1, 0]", ("class Solution:\n    def two_sum(self, a): pass", W, "exception")),
    ("flatten", ("flat", [([[[1], [2, 3]]], [1, 2, 3])]), "def flat(a): return [x for b in a for x in b]", "def flat(a): return a",
     ("def flat(a): return (x for b in a for x in b)", W, "unreadable")),
    ("mean of list", ("mean", [([[1, 1, 2]], 1.3333333333)]), "def mean(a): return sum(a) / len(a)", "def mean(a): return 1.3",
     ("def mean(a): return float('nan')", W, "wrong_output")),
    ("count", ("count", [(["aab"], {"a": 2, "b": 1})]), "def count(s): return collections.Counter(s)", "def count(s): return {}",
     ("class Equal:\n    def __eq__(self, other): return True\ndef count(s): return Equal()", W, "unreadable")),
    ("first", ("first", [([[4, 5]], 4)]), "def first(a): return a[0]", "def first(a): return a[-1]",
     ("import os\ndef first(a): os._exit(0)", W, "no_result")),
    ("last", ("last", [([[4, 5]], 5)]), "def last(a): return a[-1]", "def last(a): return a[0]",
     ("import sys\ndef last(a): sys.exit(0)", W, "exception")),
    ("negate", ("negate", [([True], False)]), "def negate(x): return not x", "def negate(x): return x", ("def negate(x):\n    " + BURN, W, "time")),
    ("nothing", ("nothing", [([], None)]), "def nothing(): pass", "def nothing(): return 0", ("def nothing(): " + SLEEP, T, "stalled")),
    ("repeat", ("repeat", [(["ab", 2], "abab")]), "def repeat(s, n): return s * n", "def repeat(s, n): return s",
     ("class Liar(str):\n    def __eq__(self, other): return True\ndef repeat(s, n): return Liar('no')", W, "wrong_output")),
    ("merge", ("merge", [([[1, 3], [2]], [1, 2, 3])]), "def merge(a, b): return sorted(a + b)", "def merge(a, b): return a + b",
     ("import json\njson.dumps = lambda *a: '[1, 2]'\ndef merge(a, b): return []", W, "wrong_output")),
    ("transpose", ("turn", [([[[1, 2]]], [[1], [2]])]), "def turn(a): return list(zip(*a))", "def turn(a): return a",
     ("def turn(a):\n    a.append(a)\n    return a", W, "unreadable")),
    ("power mod", ("mod", [([2, 100, 7], 2)]), "def mod(a, b, m): return pow(a, b, m)", "def mod(a, b, m): return 1",
     ("def mod(a, b, m): return 10 ** 5000", W, "wrong_output")),
    # assertions
    ("is even", ("even", "assert even(2)\nassert not even(3)"), "def even(n): return n % 2 == 0", "def even(n): return True",
     ("def odd(n): return n % 2", W, "no_function")),
    ("maximum", ("largest", "def check(candidate):\n    assert candidate([1, 3]) == 3\n    assert candidate([-1]) == -1"),
     "def largest(a): return max(a)", "def largest(a): return a[-1] + 1", ("def largest(a): return a[9]", W, "exception")),
    ("roots", ("root", "def check(candidate):\n    assert abs(candidate(2.0) - 1.41421356) < 1e-6"), "def root(x): return math.sqrt(x)",
     "def root(x): return x / 2", ("def abs(x): return 0\ndef root(x): return 5.0", W, "wrong_output")),
    ("pairs", ("pairs", "assert pairs('ab') == [('a', 'b')]\nassert set(pairs('abc')) == {('a', 'b'), ('b', 'c')}"),
     "def pairs(s): return list(zip(s, s[1:]))", "def pairs(s): return [list(p) for p in zip(s, s[1:])]",
     ("class Any:\n    def __eq__(self, other): return True\ndef pairs(s): return Any()", E, "unsure")),
    ("raises", ("checked", "try:\n    checked(-1)\n    assert False, 'no error'\nexcept ValueError: pass"),
     "def checked(n):\n    if n < 0: raise ValueError('negative')", "def checked(n): pass",
     ("def checked(n): raise KeyError(n)", W, "exception")),
    ("points", ("Point", "p = Point(1, 2)\nassert p.x + p.y == 3\np.x = 5\nassert p.norm() == 7"),
     "class Point:\n    def __init__(self, x, y): self.x, self.y = x, y\n    def norm(self): return self.x + self.y",
     "class Point:\n    def __init__(self, x, y): self.x, self.y = x, y\n    def norm(self): return 0",
     ("def Point(x, y): return None", W, "wrong_output")),
    ("evens", ("evens", "assert list(evens(5)) == [0, 2, 4]"), "def evens(n):\n    yield from range(0, n, 2)", "def evens(n): return iter([])",
     ("import os\ndef evens(n): os._exit(0)", W, "no_result")),
    ("swap", ("swap", "assert swap((1, 2)) == (2, 1)"), "def swap(t): return t[::-1]", "def swap(t): return list(t[::-1])",
     ("import gc\ndef swap(t):\n    found = [o for o in gc.get_objects() if type(o) is str and 'assert swap' in o]\n    return (2, 1) if found else 0",
      W, "wrong_output")),
    ("clamp", ("clamp", "assert clamp(5, 0, 3) == 3"), "def clamp(x, a, b): return max(a, min(x, b))", "def clamp(x, a, b): return x",
     ("def clamp(x, a, b):\n    " + BURN, W, "time")),
    ("initials", ("initials", "assert initials('ab cd') == 'AC'"), "def initials(s): return ''.join(w[0].upper() for w in s.split())",
     "def initials(s): return s[0]", ("import os, signal\ndef initials(s):\n    os.close(3)\n    return 1", W, "exception|no_result")),
]  # fmt: skip


@dataclass(frozen=True)
class Solution:
    """A solution, and what is to be said of it."""

    name: str
    tests: CodeTests
    code: str
    verdict: str
    reasons: frozenset[str] = frozenset()
    """One of which is the first failure's; none where all tests pass."""

    @property
    def completion(self) -> str:
        """As a model writes it."""
        return f"<think>\n```python\nprint('a draft')\n```\n</think>\nSo:\n```python\n{self.code}\n```\nThat is all."


def solutions() -> list[Solution]:
    """All solutions of all problems, in order."""
    found = []
    for name, written, right, wrong, *others in SET:
        tests = tests_of(written)
        found.append(Solution(name, tests, right, "correct"))
        found.append(Solution(name, tests, wrong, "wrong", frozenset({"wrong_output"})))
        found += [
            Solution(name, tests, code, verdict, frozenset(reason.split("|"))) for code, verdict, reason in others
        ]
    return found


def tests_of(written: Any) -> CodeTests:
    """As `SET` writes them."""
    if isinstance(written, str):
        pairs = [pair.split("->") for pair in written.split(";")]
        lines = [[side.strip().replace("/", "\n") for side in pair] for pair in pairs]
        tests = read_tests([{"stdin": given, "stdout": wanted} for given, wanted in lines])
    elif isinstance(written[1], str):
        tests = read_tests(written[1], written[0])
    else:
        tests = read_tests([{"args": args, "expected": wanted, "fn_name": written[0]} for args, wanted in written[1]])
    assert tests is not None
    return tests


assert len(SET) == 60
