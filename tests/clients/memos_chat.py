"""Run by the `memos` environment: the real MemOSClient, unmodified. Arguments: base URL, then calls as JSON.

Each call is a list: method name, keyword arguments. Prints one JSON list of results.
"""

import json
import sys

from memos.api.client import MemOSClient

base_url, calls = sys.argv[1], json.loads(sys.argv[2])
client = MemOSClient(api_key="any-key-will-do", base_url=base_url)
results = []
for method, arguments in calls:
    answer = getattr(client, method)(**arguments)
    if arguments.get("stream"):
        results.append(list(answer))
    else:
        results.append(answer.model_dump() if hasattr(answer, "model_dump") else answer)
print("RESULTS " + json.dumps(results))
