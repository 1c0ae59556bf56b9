// The openai package. Third argument: `chat` or `responses`.

import OpenAI from "openai";
import { BASE_URL, CITY, KIND, PICTURE, USER, WEATHER, tried, weather } from "./scenarios.mjs";

const client = new OpenAI({ baseURL: BASE_URL, apiKey: "any", maxRetries: 0, defaultHeaders: USER });
const url = `data:image/png;base64,${PICTURE}`;

const chat = async (messages, fields = {}) => {
  const asked = typeof messages === "string" ? [{ role: "user", content: messages }] : messages;
  const answer = await client.chat.completions.create({ model: "fake-1", messages: asked, ...fields });
  return answer.choices[0].message;
};

const overChat = {
  ask: async (text) => (await chat(text)).content,
  streamed: async () => {
    let text = "";
    const messages = [{ role: "user", content: "hi" }];
    for await (const chunk of await client.chat.completions.create({ model: "fake-1", messages, stream: true })) {
      text += chunk.choices[0]?.delta?.content ?? "";
    }
    return text;
  },
  tools: async () => {
    const run = { name: "weather", parameters: WEATHER, function: weather, parse: JSON.parse };
    const runner = client.chat.completions.runTools({
      model: "fake-1",
      messages: [{ role: "user", content: "How is the weather in Lisbon?" }],
      tools: [{ type: "function", function: run }],
    });
    return runner.finalContent();
  },
  schema: async () => {
    const form = { type: "json_schema", json_schema: { name: "city", schema: CITY } };
    return JSON.parse((await chat("Lisbon?", { response_format: form })).content);
  },
  picture: async () => {
    const parts = [{ type: "text", text: "What is it?" }, { type: "image_url", image_url: { url } }];
    return (await chat([{ role: "user", content: parts }])).content;
  },
  missing: () => chat("hi", { model: "missing" }),
};

const respond = (input, fields = {}) => client.responses.create({ model: "fake-1", input, ...fields });

const overResponses = {
  ask: async (text) => (await respond(text)).output_text,
  streamed: async () => {
    let text = "";
    for await (const event of await respond("hi", { stream: true })) {
      if (event.type === "response.output_text.delta") text += event.delta;
    }
    return text;
  },
  tools: async () => {
    const tools = [{ type: "function", name: "weather", parameters: WEATHER, strict: false }];
    const input = [{ role: "user", content: "How is the weather in Lisbon?" }];
    const [call] = (await respond(input, { tools })).output;
    const output = weather(JSON.parse(call.arguments));
    const result = { type: "function_call_output", call_id: call.call_id, output };
    return (await respond([...input, call, result], { tools })).output_text;
  },
  schema: async () => {
    const format = { type: "json_schema", name: "city", schema: CITY };
    return JSON.parse((await respond("Lisbon?", { text: { format } })).output_text);
  },
  picture: async () => {
    const content = [{ type: "input_text", text: "What is it?" }, { type: "input_image", image_url: url, detail: "auto" }];
    return (await respond([{ role: "user", content }])).output_text;
  },
  missing: () => respond("hi", { model: "missing" }),
};

await tried(KIND === "responses" ? overResponses : overChat);
