"""Submits a run, follows it, fetches the file it made. Needs Python 3 and nothing else.

    python3 quickstart.py demo-fractal '{"width": 512, "height": 512}' fractal.png
"""

import http.client
import json
import os
import shutil
import sys
import time
import urllib.request

API = os.environ["CYBERUN_URL"] + "/api/v1"
KEY = os.environ["CYBERUN_KEY"]
ENDS = ("completed", "failed", "cancelled")


def call(path, body=None, headers=None):
    request = urllib.request.Request(API + path, headers={"Authorization": "Bearer " + KEY, **(headers or {})})
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    return urllib.request.urlopen(request, timeout=60)


def events(response):
    """The events of a stream: their id, name and data. A line with a colon first is a comment."""
    event_id, name, data = None, "message", []
    for raw in response:
        line = raw.decode().rstrip("\r\n")
        field, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if line == "":
            if data:
                yield event_id, name, json.loads("\n".join(data))
            event_id, name, data = None, "message", []
        elif field == "id":
            event_id = value
        elif field == "event":
            name = value
        elif field == "data":
            data.append(value)


def follow(task_id):
    """Every event until the run has ended. After a cut it goes on behind the last one it had."""
    last = "0"
    while True:
        try:
            with call(f"/r/tasks/{task_id}/events", headers={"Last-Event-ID": last}) as response:
                for event_id, name, data in events(response):
                    last = event_id or last
                    yield name, data
                    if name in ENDS:
                        return
        except (ConnectionError, TimeoutError, http.client.IncompleteRead):
            pass
        time.sleep(2)


def main(slug, parameters, path):
    with call(f"/r/workflows/slug/{slug}/run", {"parameters": json.loads(parameters)}) as response:
        task_id = json.load(response)["task_id"]

    for name, data in follow(task_id):
        if name == "progress":
            print(f"{data['progress']:.0%}")
        elif name == "log":
            print(data["line"])
        elif name == "failed":
            sys.exit(data["error"])

    with call(f"/r/tasks/{task_id}/result") as response:
        url = json.load(response)["download_url"]
    with urllib.request.urlopen(url) as source, open(path, "wb") as target:
        shutil.copyfileobj(source, target)
    print(f"saved {path}")


if __name__ == "__main__":
    main(*sys.argv[1:])
