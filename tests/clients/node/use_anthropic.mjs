// The @anthropic-ai/sdk package.

import Anthropic from "@anthropic-ai/sdk";
import { BASE_URL, CITY, PICTURE, USER, WEATHER, tried, weather } from "./scenarios.mjs";

const client = new Anthropic({
  baseURL: BASE_URL.replace(/\/v1$/, ""),
  apiKey: "any",
  maxRetries: 0,
  defaultHeaders: USER,
});
const shared = { model: "fake-1", max_tokens: 100 };
const create = (messages, fields = {}) => client.messages.create({ ...shared, messages, ...fields });
const said = (content) => [{ role: "user", content }];
const textOf = (message) => message.content.map((block) => block.text ?? "").join("");

await tried({
  ask: async (text) => textOf(await create(said(text))),
  streamed: () => client.messages.stream({ ...shared, messages: said("hi") }).finalText(),
  tools: async () => {
    const tools = [{ name: "weather", input_schema: WEATHER }];
    const messages = said("How is the weather in Lisbon?");
    const message = await client.messages.stream({ ...shared, messages, tools }).finalMessage();
    const call = message.content.find((block) => block.type === "tool_use");
    const result = { type: "tool_result", tool_use_id: call.id, content: weather(call.input) };
    return textOf(await create([...messages, { role: "assistant", content: message.content }, ...said([result])], { tools }));
  },
  schema: async () => {
    const format = { type: "json_schema", schema: CITY };
    return JSON.parse(textOf(await create(said("Lisbon?"), { output_config: { format } })));
  },
  picture: async () => {
    const source = { type: "base64", media_type: "image/png", data: PICTURE };
    return textOf(await create(said([{ type: "text", text: "What is it?" }, { type: "image", source }])));
  },
  missing: () => create(said("hi"), { model: "missing" }),
});
