"""What a failure costs: one request where it is that request's own, the run where it is every request's, never more tries and
never less time than it must."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from chat_server import ChatServer, Reply, completion
from test_endpoint import PARAMETERS, ask, first_then_well, settings

from redi_ray.data.sample.endpoint import ChatClient
from redi_ray.data.sample.endpoint_errors import EndpointError
from redi_ray.data.sample.endpoint_wire import Answer, Refusal

PAST = "Sat, 01 Jan 2022 00:00:00 GMT"
AZURE = {
    "error": {"message": "filtered", "code": "content_filter", "innererror": {"code": "ResponsibleAIPolicyViolation"}}
}


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (completion("x \ud835"), "bad_text"),
        (Reply(200, b'{"choices": [{"message": {"content": "\xed\xa0\xb5"}}]}'), "bad_text"),
        (Reply(200, b'{"choices": [{"message": {"content": "\xff"}}]}'), "bad_text"),
        (Reply(200, {"choices": []}), "bad_answer"),
        (Reply(200, [1, 2]), "bad_answer"),
        (Reply(200, {"choices": [{"message": {"content": 5}}]}), "bad_answer"),
        (completion([{"type": "image", "image": "x"}]), "bad_answer"),
        (Reply(200, b"<html>Welcome</html>"), "bad_answer"),
        (Reply(200, b"data: {}\n\n"), "bad_answer"),
        (Reply(200, {"error": {"message": "no", "type": "invalid_request_error"}}), "bad_answer"),
        (Reply(200, {"error": {"message": "no", "code": 400}}), "http_400"),
        (Reply(400, {"error": "\ud835"}), "http_400"),
        (Reply(400, AZURE), "content_filter"),
        (
            Reply(403, {"error": {"message": "flagged", "code": 403, "metadata": {"flagged_input": "x"}}}),
            "content_filter",
        ),
        (completion("", "content_filter"), "content_filter"),
        (completion(None, refusal="I can't."), "content_filter"),
    ],
)
def test_what_will_not_pass_costs_one_request(reply: Reply, reason: str):
    """A second try would get, and pay for, the same. The others are answered, and what was said can be stored."""

    def answer(body: dict[str, Any], tries: int) -> Reply:
        return reply if body["messages"][0]["content"] == "problem 1" else completion("four")

    with ChatServer(answer) as server:
        outcomes, _ = ask(server, 3)
    assert [type(outcome) for outcome in outcomes] == [Answer, Refusal, Answer]
    assert outcomes[1].reason == reason
    outcomes[1].detail.encode()
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (Reply(401, {"error": "\ud835"}), r"refuses access \(401\)"),
        (Reply(200, {"error": {"message": "No auth", "code": 401}}), r"refuses access \(401\)"),
        (Reply(402, {"error": {"message": "Insufficient Balance"}}), r"no credit is left there \(402\)"),
        (Reply(429, {"error": {"message": "x", "code": "insufficient_quota"}}), r"no credit is left there \(429\)"),
        (Reply(404, {"error": {"message": "The model `m` does not exist.", "code": 404}}), "has no model 'm'"),
        (Reply(404, {"error": {"message": "x", "code": "model_not_found"}}), "has no model 'm'"),
        (Reply(404, {"detail": "Not Found"}), "is no place of a chat API"),
        (Reply(405, b"Method Not Allowed"), "is no place of a chat API"),
        (
            Reply(307, b"", {"location": "http://127.0.0.2:1/v2/chat/completions"}),
            r"write base_url: http://127.0.0.2:1/v2 ",
        ),
        (Reply(302, b"", {"location": "/login"}), r"redirects to http://.*/login; write"),
    ],
)
def test_what_every_request_would_hear_ends_the_run_at_once(reply: Reply, told: str):
    with ChatServer(lambda body, tries: reply) as server:
        with pytest.raises(EndpointError, match=told) as caught:
            ask(server, 5, max_in_flight=1)
    assert len(server.seen) == 1
    str(caught.value).encode()


@pytest.mark.parametrize("asked", ["0", "-5", "0.0", PAST, "soon", "nan", ""])
@pytest.mark.parametrize("status", [429, 503])
def test_the_servers_wait_never_shortens_the_back_off(asked: str, status: int):
    """Three waits of 0.1, 0.2 and 0.4 s at the most, half of it at least."""
    with ChatServer(lambda body, tries: Reply(status, b"", {"retry-after": asked})) as server:
        ask(server, max_retries=3, backoff_seconds=0.1)
    gaps = [after.at - before.at for before, after in zip(server.seen, server.seen[1:], strict=False)]
    assert len(gaps) == 3
    assert all(gap >= least for gap, least in zip(gaps, (0.05, 0.1, 0.2), strict=True)), gaps


def test_the_servers_wait_may_be_in_milliseconds():
    reply = Reply(429, b"", {"retry-after-ms": "400", "retry-after": "0"})
    with ChatServer(first_then_well(reply)) as server:
        ask(server)
    assert server.seen[1].at - server.seen[0].at >= 0.4


@pytest.mark.parametrize(
    ("reply", "kept"),
    [
        (Reply(503, b""), True),
        (Reply(408, b""), True),
        (Reply(reset=True), True),
        (Reply(200, b'{"choices": [{"mess'), True),
        (Reply(200, {"choices": []}), True),
        (completion("half of it", "abort", usage={}), True),
        (completion("", "content_filter", usage={}), True),
        (completion("four", usage={}), True),
        (Reply(429, b""), False),
        (Reply(400, b""), False),
        (Reply(400, AZURE), False),
    ],
)
def test_tokens_that_may_be_spent_stay_spent(reply: Reply, kept: bool):
    """A minute's budget is given back only where the server surely did nothing."""

    async def wait() -> float:
        client = ChatClient(settings(server.url, tokens_per_minute=60, max_retries=0))
        await client.ask([{"role": "user", "content": "six" * 10}], PARAMETERS, 0)
        await client.close()
        return client._tokens.wait

    with ChatServer(lambda body, tries: reply) as server:
        assert (asyncio.run(wait()) > 50) == kept, "the request counts with 60 tokens"


def test_tokens_of_a_server_that_is_not_there_are_given_back():
    async def wait() -> float:
        client = ChatClient(settings("http://127.0.0.1:9/v1", tokens_per_minute=60, max_retries=0))
        await client.ask([{"role": "user", "content": "six" * 10}], PARAMETERS, 0)
        return client._tokens.wait

    assert asyncio.run(wait()) < 1


@pytest.mark.parametrize("reply", [completion("", "content_filter"), Reply(400, AZURE), completion("\ud835")])
def test_refusals_of_single_contents_do_not_end_a_run(reply: Reply):
    with ChatServer(lambda body, tries: reply) as server:
        outcomes, _ = ask(server, 12, max_failures_in_row=3, max_in_flight=1)
    assert all(isinstance(outcome, Refusal) for outcome in outcomes)
    assert len(server.seen) == 12


@pytest.mark.parametrize(
    "reply", [Reply(400, b"no"), completion("half", "abort"), completion(""), Reply(200, {"choices": []})]
)
def test_refusals_of_every_content_do(reply: Reply):
    with ChatServer(lambda body, tries: reply) as server:
        with pytest.raises(EndpointError, match="3 requests in a row"):
            ask(server, 12, max_failures_in_row=3, max_in_flight=1, max_retries=0)
    assert len(server.seen) == 3
