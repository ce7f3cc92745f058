"""A real browser, Debian's Chromium without a window, and a server for it; tests that need it skip where it is missing."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no reason to answer in parts."""
    monkeypatch.setattr("redi_ray.ui.rows.SECONDS", 60)
    monkeypatch.setattr("redi_ray.ui.row_colours.SECONDS", 60)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser, as Selenium drives it."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("no Chromium here (apt-get install chromium chromium-driver)")
    selenium = pytest.importorskip("selenium.webdriver")
    options = selenium.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    found = selenium.Chrome(options, selenium.ChromeService(driver))
    yield found
    found.quit()


@pytest.fixture
def browser(chromium: Any) -> Iterator[Any]:
    """The same for one test. In the end no page has asked another place than its server, and none has had an error."""
    for kind in ("performance", "browser"):
        chromium.get_log(kind)
    yield chromium
    told = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    asked = [one["params"]["request"]["url"] for one in told if one["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith(("http://127.0.0.1:", "data:"))] == []
    assert [entry["message"] for entry in chromium.get_log("browser")] == []


@pytest.fixture(scope="session")
def served() -> Iterator[Callable[[Any], str]]:
    """Serves an app; where."""
    import uvicorn

    servers = []

    def served(app: Any) -> str:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        sock.listen()  # whoever asks before the server is there waits
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{sock.getsockname()[1]}"

    yield served
    for server, thread in servers:
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="session")
def pages_of() -> Iterator[Callable[..., Any]]:
    """The pages over some roots. They share the process beside them, one for each S3 server, whose address it inherits."""
    from redi_ray.ui.app import create_app
    from redi_ray.ui.outside import Outside

    made, beside = [], dict[str, Outside]()

    def pages_of(*roots: str) -> Any:
        app = create_app(roots)
        shared = beside.setdefault(os.environ.get("AWS_ENDPOINT_URL", ""), Outside())
        app.state.outside = app.state.snapshots.outside = shared
        made.append(app)
        return app

    yield pages_of
    for one in beside.values():
        one.end()
    for app in made:
        app.state.token_jobs.close()


@pytest.fixture(scope="session")
def rows_app(pages_of: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    """A small run to look at (`rows_run`), and the pages over it, whose process for tokens all tests share."""
    from rows_run import write_rows_run

    run = write_rows_run(str(tmp_path_factory.mktemp("rows") / "run"))
    return run, pages_of(run)
