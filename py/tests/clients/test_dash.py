"""Dash keeps jobs, their progress and results of background callbacks in a cache (`DiskcacheManager`)."""

from __future__ import annotations

import pytest
from conftest import Client

APP = """
import json, time
import diskcache
from dash import Dash, DiskcacheManager, Input, Output, html

cache = {cache}
manager = DiskcacheManager(cache, cache_by=[lambda: "version 1"], expire=60)
app = Dash(__name__, background_callback_manager=manager)
app.layout = html.Div([html.Button(id="button"), html.Div(id="out"), html.Div(id="shown")])

@app.callback(
    Output("out", "children"), Input("button", "n_clicks"), background=True, progress=Output("shown", "children"),
    prevent_initial_call=True,
)
def work(set_progress, clicks):
    set_progress("half")
    time.sleep(1)
    cache.incr("calls")
    if clicks == 13:
        raise ValueError("unlucky")
    return "clicked %d" % clicks

client = app.server.test_client()
dependencies = client.get("/_dash-dependencies").get_json()
output = dependencies[0]["output"]

def post(clicks, arguments=()):
    body = {{
        "output": output, "outputs": {{"id": "out", "property": "children"}},
        "inputs": [{{"id": "button", "property": "n_clicks", "value": clicks}}], "changedPropIds": ["button.n_clicks"],
    }}
    return client.post("/_dash-update-component", json=body, query_string=list(arguments))

def click(clicks):
    shown, first = [], post(clicks).get_json()
    deadline = time.monotonic() + 60
    arguments = [("cacheKey", first["cacheKey"]), ("job", first["job"])]
    while time.monotonic() < deadline:
        answer = post(clicks, arguments)
        content = answer.get_json(silent=True) or {{}}
        shown += [content["progress"]] if "progress" in content else []
        if "response" in content or answer.status_code == 500:
            return answer, shown
        time.sleep(0.05)
    raise AssertionError("no answer: %r" % answer.data)

answer, shown = click(1)
assert answer.get_json()["response"]["out"]["children"] == "clicked 1", answer.data
assert shown, "no progress was seen"
assert cache.get("calls") == 1
# A kept result is the answer at once, and the job that was begun meanwhile is ended.
assert click(1)[0].get_json()["response"]["out"]["children"] == "clicked 1"
assert cache.get("calls") == 1, "the result was not kept"
assert click(2)[0].get_json()["response"]["out"]["children"] == "clicked 2"
failed = click(13)[0]
assert failed.status_code == 500 or "unlucky" in failed.get_data(as_text=True), failed.data
"""


@pytest.mark.parametrize("cache", ["diskcache.Cache(folder)", "diskcache.FanoutCache(folder, shards=2, timeout=10)"])
def test_background_callbacks_run_report_and_are_kept(client: Client, cache: str) -> None:
    # Dash looks at both classes, whichever it is given.
    client(APP.format(cache=cache), needs=("dash",))
