"""The client of chat endpoints, against a real server that misbehaves: what is tried again, what fails alone, what ends it."""

from __future__ import annotations

import asyncio
import dataclasses
import email.utils
import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest
from chat_server import ChatServer, Reply, completion
from pydantic import SecretStr

from redi_ray.config.endpoints import EndpointSettings
from redi_ray.data.sample.endpoint import ChatClient
from redi_ray.data.sample.endpoint_check import check_endpoint, endpoint_key
from redi_ray.data.sample.endpoint_errors import EndpointError
from redi_ray.data.sample.endpoint_pace import Pace
from redi_ray.data.sample.endpoint_wire import Answer, Parameters, Refusal, read_answer, retry_after

PARAMETERS = Parameters(temperature=0.6, top_p=0.95, max_tokens=50)
KEY = SecretStr("open-sesame")


def settings(url: str, **changes: Any) -> EndpointSettings:
    return EndpointSettings(**{"base_url": url, "model": "m", "backoff_seconds": 0.01, "max_retries": 4, **changes})


def ask(server: ChatServer, number: int = 1, **changes: Any) -> tuple[list[Answer | Refusal], ChatClient]:
    """The outcomes of `number` chats at once."""

    async def all_of_them() -> tuple[list[Answer | Refusal], ChatClient]:
        client = ChatClient(settings(server.url, **changes), KEY)
        chats = [[{"role": "user", "content": f"problem {index}"}] for index in range(number)]
        outcomes = await asyncio.gather(*(client.ask(chat, PARAMETERS, seed) for seed, chat in enumerate(chats)))
        await client.close()
        return outcomes, client

    return asyncio.run(all_of_them())


def first_then_well(*first: Reply) -> Callable[[dict[str, Any], int], Reply]:
    return lambda body, tries: first[tries - 1] if tries <= len(first) else completion("four")


def test_what_is_sent_and_what_comes_back():
    with ChatServer(lambda body, tries: completion("four", reasoning_content="2+2")) as server:
        (answer,), _ = ask(server, extra_body={"top_k": 20})
        (_,), _ = ask(server, omit=["seed", "top_p"], max_tokens_name="max_completion_tokens")
    assert answer == Answer("four", "2+2", "stop", 11, 7)
    chat = [{"role": "user", "content": "problem 0"}]
    assert server.seen[0].path == "/v1/chat/completions"
    assert server.seen[0].authorization == "Bearer open-sesame"
    assert server.seen[0].body == {
        "model": "m", "messages": chat, "max_tokens": 50, "temperature": 0.6, "top_p": 0.95, "seed": 0, "top_k": 20,
    }  # fmt: skip
    assert server.seen[1].body == {"model": "m", "messages": chat, "max_completion_tokens": 50, "temperature": 0.6}


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(429, {"error": "slow down"}), "rate_limited"),
        (Reply(500, b"oops"), "server_error"),
        (Reply(503, b""), "server_error"),
        (Reply(408, b""), "server_error"),
        (Reply(reset=True), "connection"),
        (Reply(200, b'{"choices": [{"mess'), "bad_answer"),
        (Reply(200, {"error": {"message": "upstream"}}), "bad_answer"),
        (Reply(200, {"error": {"message": "busy", "code": 429}}), "rate_limited"),
        (Reply(200, {"error": {"message": "busy", "code": "502"}}), "server_error"),
        (Reply(200, {"error": {"message": "busy", "type": "overloaded_error"}}), "server_error"),
        (Reply(200, {"object": "error", "message": "busy", "code": 503}), "server_error"),
        (Reply(499, b""), "server_error"),
        (Reply(529, b""), "server_error"),
        (completion("half of it", "abort"), "broken_off"),
        (completion("half of it", "Error"), "broken_off"),
        (completion("half of it", "insufficient_system_resource"), "broken_off"),
        (completion("half of it", {"type": "abort", "message": "Aborted"}), "broken_off"),
    ],
)
def test_what_may_pass_is_tried_again(reply: Reply, reason: str):
    """Twice badly and then well is an answer; badly to the last is a refusal that says why."""
    with ChatServer(first_then_well(reply, reply)) as server:
        (answer,), client = ask(server)
        assert isinstance(answer, Answer)
        assert client.retries == {reason: 2}
    with ChatServer(lambda body, tries: reply) as server:
        (refusal,), _ = ask(server, max_retries=2)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == reason
    assert len(server.seen) == 3


def test_a_stalled_server_is_given_up_and_tried_again():
    """However busy this machine is: a stall is only ever a time-out, and the first try that is not stalled answers."""
    stall = Reply(200, b"", delay=3.0)
    with ChatServer(first_then_well(stall)) as server:
        (answer,), client = ask(server, timeout_seconds=1.0, max_retries=50)
        assert isinstance(answer, Answer)
        assert set(client.retries) == {"timeout"}
    with ChatServer(lambda body, tries: stall) as server:
        (refusal,), _ = ask(server, max_retries=1, timeout_seconds=0.2)
    assert refusal == Refusal("timeout", "no answer within 0.2 s")


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_other_client_errors_fail_at_once_and_alone(status: int):
    def answer(body: dict[str, Any], tries: int) -> Reply:
        bad = body["messages"][0]["content"] == "problem 1"
        return Reply(status, {"error": "context length; key open-sesame"}) if bad else completion("four")

    with ChatServer(answer) as server:
        outcomes, _ = ask(server, 3)
    assert [type(outcome) for outcome in outcomes] == [Answer, Refusal, Answer]
    assert outcomes[1] == Refusal(f"http_{status}", '{"error": "context length; key ***"}')
    assert len(server.seen) == 3


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_ends_the_run(status: int):
    """At once, naming the variable, without repeating the key."""
    with ChatServer(lambda body, tries: Reply(status, {"error": "bad key open-sesame"})) as server:
        with pytest.raises(EndpointError, match=rf"refuses access \({status}\); check the key in TEACHER") as caught:
            ask(server, api_key_env="TEACHER")
    assert len(server.seen) == 1
    assert "sesame" not in str(caught.value)


def test_retry_after_is_waited_for_by_everybody():
    """The wait is the server's, far longer than our own, and requests that have not been sent yet wait as well."""
    replies = itertools.count()

    def answer(body: dict[str, Any], tries: int) -> Reply:
        return Reply(429, b"", {"retry-after": "1"}) if next(replies) == 0 else completion("four")

    with ChatServer(answer) as server:
        outcomes, _ = ask(server, 3, max_in_flight=1)
    assert all(isinstance(outcome, Answer) for outcome in outcomes)
    assert server.seen[1].at - server.seen[0].at >= 1.0
    with ChatServer(lambda body, tries: Reply(429, b"", {"retry-after": "7200"})) as server:
        (refusal,), _ = ask(server, max_retry_after_seconds=600)
    assert refusal.reason == "rate_limited"
    assert len(server.seen) == 1


def test_retry_after_in_every_form():
    assert retry_after("3") == 3.0
    assert retry_after("0.5") == 0.5
    assert retry_after("-4") == 0.0
    assert 50 < retry_after(email.utils.formatdate(time.time() + 60, usegmt=True)) <= 60
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    for odd in (None, "", "soon", "nan", "inf"):
        assert retry_after(odd) is None


def test_pace_by_the_clock():
    """Evenly spaced, corrections count at once, a pause moves everybody, and idle minutes are not saved up."""
    now = 100.0
    pace = Pace(60, clock=lambda: now)
    assert pace.wait == 0
    pace.count(1)
    assert pace.wait == 1
    pace.count(5)
    assert pace.wait == 6
    pace.count(-4)
    assert pace.wait == 2
    now = 200.0
    assert pace.wait == 0
    pace.count(1)
    assert pace.wait == 1
    pace.hold(30)
    assert pace.wait == 30
    pace.hold(3)
    assert pace.wait == 30
    free = Pace(None, clock=lambda: now)
    free.count(1000)
    assert free.wait == 0
    free.hold(2)
    assert free.wait == 2


def test_requests_in_flight_and_their_pace():
    def slowly(body: dict[str, Any], tries: int) -> Reply:
        return dataclasses.replace(completion("four"), delay=0.05)

    with ChatServer(slowly) as server:
        ask(server, 20, max_in_flight=4)
        assert server.most_at_once == 4
    with ChatServer(lambda body, tries: completion("four")) as server:
        started = time.monotonic()
        ask(server, 8, requests_per_minute=1200)
    assert server.seen[-1].at - started >= 7 * 0.05, "eight requests at 20 a second have seven gaps"


def test_tokens_per_minute_follow_what_was_used():
    """A request first counts with its limit, once there are answers with their mean."""

    async def waits() -> list[float]:
        client = ChatClient(settings(server.url, tokens_per_minute=60_000))
        found = []
        for seed in range(2):
            await client.ask([{"role": "user", "content": "six" * 10}], PARAMETERS, seed)
            found.append(client._expected_tokens({}))
        return found

    spent = iter([100, 300])
    answer = lambda body, tries: completion("four", usage={"prompt_tokens": 0, "completion_tokens": next(spent)})  # noqa: E731
    with ChatServer(answer) as server:
        assert asyncio.run(waits()) == [100, 200]
        assert (
            ChatClient(settings(server.url))._expected_tokens({"messages": [{"content": "six" * 10}], "max_tokens": 50})
            == 10 + 50
        )
        started = time.monotonic()
        spent = itertools.repeat(100)
        ask(server, 4, tokens_per_minute=60_000, max_in_flight=1)
    assert server.seen[-1].at - started >= 3 * 0.1, "four answers of 100 tokens at 1,000 a second have three gaps"


def test_a_dead_server_ends_the_run_instead_of_rejecting_the_corpus():
    with ChatServer(lambda body, tries: Reply(503, b"maintenance")) as server:
        with pytest.raises(
            EndpointError, match=r"5 requests in a row failed for good, the last with server_error: 503"
        ):
            ask(server, 40, max_failures_in_row=5, max_retries=0, max_in_flight=1)
    assert len(server.seen) < 40


def test_successes_between_failures_keep_it_going():
    def answer(body: dict[str, Any], tries: int) -> Reply:
        return completion("four") if int(body["messages"][0]["content"].split()[1]) % 3 == 0 else Reply(400, b"no")

    with ChatServer(answer) as server:
        outcomes, _ = ask(server, 30, max_failures_in_row=3, max_in_flight=1)
    assert sum(isinstance(outcome, Refusal) for outcome in outcomes) == 20


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (completion("x", "length"), Answer("x", "", "length", 11, 7)),
        (completion("x", "eos"), Answer("x", "", "stop", 11, 7)),
        (completion("x", usage={}), Answer("x", "", "stop", None, None)),
        (completion("x", usage={"prompt_tokens": -1, "completion_tokens": "7"}), Answer("x", "", "stop", None, None)),
        (completion(None, "length", reasoning="long thoughts"), Answer("", "long thoughts", "length", 11, 7)),
        (completion("", "stop"), Refusal("empty", "finish_reason stop")),
        (completion("bad words", "content_filter"), Refusal("content_filter", "bad words")),
    ],
)
def test_answers_are_read_as_the_server_means_them(reply: Reply, expected: Answer | Refusal):
    assert read_answer(reply.body) == expected


def test_one_look_before_the_start(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """A server that is not there and a refused key are told at once; a list without our model is a warning."""
    with ChatServer(lambda body, tries: completion("four")) as server:
        check_endpoint(settings(server.url), KEY)
        server.models = Reply(404, b"no such page")
        check_endpoint(settings(server.url), KEY)
        server.models = Reply(401, b"who are you, open-sesame?")
        with pytest.raises(EndpointError, match="refuses access") as caught:
            check_endpoint(settings(server.url), KEY)
        assert "sesame" not in str(caught.value)
        server.models = Reply(200, {"data": [{"id": "other"}]})
        with caplog.at_level("WARNING", logger="redi_ray"):
            check_endpoint(settings(server.url), KEY)
        assert "lists no model 'm', only other" in caplog.text
    with pytest.raises(EndpointError, match="is the server up"):
        check_endpoint(settings(server.url), KEY)

    monkeypatch.setenv("TEACHER_API_KEY", " abc ")
    keyed = settings(server.url, api_key_env="TEACHER_API_KEY")
    assert endpoint_key("generate.endpoint", keyed).get_secret_value() == "abc"
    monkeypatch.delenv("TEACHER_API_KEY")
    with pytest.raises(EndpointError, match=r"generate\.endpoint\.api_key_env names TEACHER_API_KEY, which is not set"):
        endpoint_key("generate.endpoint", keyed)
    assert endpoint_key("generate.endpoint", settings(server.url)) is None
