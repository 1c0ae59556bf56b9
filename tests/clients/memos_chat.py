"""Run by the `memos` environment: the real MemOSClient, unmodified. Reads lines of JSON: base URL, list of calls.

A call is a list: method name, keyword arguments. Prints one JSON list of results for each line.
"""

import json
import sys

from memos.api.client import MemOSClient

for line in sys.stdin:
    base_url, calls = json.loads(line)
    client = MemOSClient(api_key="any-key-will-do", base_url=base_url)
    results = []
    for method, arguments in calls:
        answer = getattr(client, method)(**arguments)
        if arguments.get("stream"):
            results.append(list(answer))
        else:
            results.append(answer.model_dump() if hasattr(answer, "model_dump") else answer)
    print("RESULTS " + json.dumps(results), flush=True)
