"""Sends events over HTTP with Segment's SDK: a JSON object a line on standard input, a call each.

    WAYPOST_URL=http://127.0.0.1:8080 WRITE_KEY=… python http_events.py <events.jsonl
"""

import json
import os
import sys

from segment.analytics.client import Client

refused = []

analytics = Client(
    os.environ["WRITE_KEY"],
    host=os.environ["WAYPOST_URL"],
    gzip=True,
    # Called in the SDK's own thread for a batch that was given up, with all its calls.
    on_error=lambda error, calls: refused.append(error),
)


def send(event):
    """One call; the SDK sends batches, and repeats one under the same message ids while the door does not answer."""
    user = event["identifiers"][0]["value"]
    if "name" in event:
        analytics.track(user, event["name"], event.get("properties"), message_id=event["message_id"])
    else:
        analytics.identify(user, event["traits"], message_id=event["message_id"])


for line in sys.stdin:
    send(json.loads(line))
analytics.shutdown()  # waits until everything has been sent
for error in refused:
    print(f"refused: {error}")
sys.exit(1 if refused else 0)
