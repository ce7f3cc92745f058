"""The section `notify`: whom a run tells how it has ended."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from redi_ray.config.section import Strict

Event = Literal["done", "failed", "collapsed", "preempted"]
_SECRET_PLACES = (
    "hooks.slack.com", "discord.com", "discordapp.com", "webhook.office.com", "chat.googleapis.com", "api.telegram.org",
)  # fmt: skip
"""Hosts whose webhooks' addresses are their keys."""


class NotifySettings(Strict):
    """A command or a webhook that hears how a run ends. Neither can make it fail, and nothing of this is in a key."""

    on: list[Event] = ["done", "failed", "collapsed"]
    """`done` and `failed`: the command has ended so; `collapsed`: the guard has seen a training collapse; `preempted`: SIGTERM
    has ended the command, which goes on later."""
    command: str | list[str] | None = None
    """Run with the event as JSON on its standard input, and in the environment REDI_RAY_EVENT, REDI_RAY_RUN, REDI_RAY_URI and
    REDI_RAY_TEXT: a line for a shell, or a program and its arguments. It runs where the driver does."""
    webhook: str | None = None
    """Address that the event is posted to as JSON; its `text` is what Slack and Mattermost show."""
    webhook_env: str | None = Field(None, pattern=r"^[A-Z_][A-Z0-9_]*$")
    """Environment variable of the driver that holds the address, where whoever knows it could write there, as with Slack."""
    timeout_seconds: float = Field(10.0, gt=0, le=300)
    """For the command, and for the webhook."""

    @field_validator("webhook")
    @classmethod
    def _is_no_secret(cls, address: str | None) -> str | None:
        if address is None:
            return None
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be http://HOST... or https://HOST...")
        long_part = any(re.fullmatch(r"(?=.*\d)[\w-]{24,}", part) for part in parts.path.split("/"))
        known = any(parts.hostname == place or parts.hostname.endswith(f".{place}") for place in _SECRET_PLACES)
        if parts.username or parts.password or parts.query or long_part or known:
            raise ValueError(
                "holds what looks like a secret, and a config is printed and saved; put the address into an environment variable "
                "and name that in webhook_env"
            )
        return address

    @model_validator(mode="after")
    def _is_one_address(self) -> NotifySettings:
        if self.webhook is not None and self.webhook_env is not None:
            raise ValueError("give webhook or webhook_env, not both")
        if self.command is not None and not self.command:
            raise ValueError("command is empty")
        return self

    def wants(self, event: str) -> bool:
        """Whether anybody hears of it."""
        return event in self.on and (self.command, self.webhook, self.webhook_env) != (None, None, None)
