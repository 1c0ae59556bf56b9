"""The official SDK of MCP as a client. Arguments: `http` or `stdio`, the mode of the SDK, and as JSON the address with
its headers, or the command with its environment."""

import asyncio
import json
import sys
from contextlib import AsyncExitStack

from mcp import Client, MCPError
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

FACT, QUESTION = "My cat is called Miso.", "What is the name of my cat?"


def text_of(result):
    return "\n".join(part.text for part in result.content)


async def connected(stack, transport, mode, target):
    if transport == "stdio":
        command, *arguments = target["command"]
        server = StdioServerParameters(command=command, args=arguments, env=target["environment"], cwd=target["folder"])
        streams = stdio_client(server)
    else:
        http_client = await stack.enter_async_context(create_mcp_http_client(headers=target["headers"]))
        streams = streamable_http_client(target["url"], http_client=http_client)
    return await stack.enter_async_context(Client(streams, mode=mode, read_timeout_seconds=60))


async def failure(call):
    try:
        await call
    except MCPError as error:
        return error.error.code
    return None


async def main(transport, mode, target):
    async with AsyncExitStack() as stack:
        client = await connected(stack, transport, mode, target)
        tools = (await client.list_tools()).tools
        stored = await client.call_tool("add_memory", {"text": FACT})
        (memory,) = stored.structured_content["memories"]
        search = await client.call_tool("search_memory", {"query": QUESTION})
        changed = await client.call_tool("update_memory", {"id": memory["id"], "text": "My cat is called Mochi."})
        history = await client.call_tool("memory_history", {"id": memory["id"]})
        await client.call_tool("add_memory", {"text": "Please always answer in French."})
        profile = await client.call_tool("get_profile", {})
        resource = await client.read_resource("memory://profile")
        prompt = await client.get_prompt("recall", {"question": QUESTION})
        deleted = await client.call_tool("delete_memory", {"id": memory["id"]})
        listed = await client.call_tool("list_memories", {"kind": "turn"})
        wrong = await client.call_tool("search_memory", {"query": 7, "limit": 1000})
        return {
            "version": client.protocol_version,
            "server": client.server_info.name if client.server_info else None,
            "tools": {tool.name: tool.annotations.read_only_hint for tool in tools},
            "resources": [str(entry.uri) for entry in (await client.list_resources()).resources],
            "templates": len((await client.list_resource_templates()).resource_templates),
            "prompts": [entry.name for entry in (await client.list_prompts()).prompts],
            "match": search.structured_content["memories"][0]["text"],
            "text": text_of(search),
            "changed": changed.structured_content["text"],
            "history": [entry["text"] for entry in history.structured_content["memories"]],
            "profile": [entry["text"] for entry in profile.structured_content["memories"]],
            "resource": resource.contents[0].text,
            "prompt": prompt.messages[0].content.text,
            "deleted": deleted.structured_content["deleted"],
            "left": [entry["text"] for entry in listed.structured_content["memories"]],
            "wrong": [wrong.is_error, text_of(wrong)],
            "no_tool": await failure(client.call_tool("no_such_tool", {})),
            "no_resource": await failure(client.read_resource("memory://other")),
        }


print(json.dumps(asyncio.run(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))))
