// Vercel's `ai`. Third argument: which provider package, and for OpenAI's which of its two formats.

import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { BASE_URL, KIND, PICTURE, USER, tried, weather } from "./scenarios.mjs";

const settings = { baseURL: BASE_URL, apiKey: "any", headers: USER };
const models = {
  chat: (name) => createOpenAI(settings).chat(name),
  responses: (name) => createOpenAI(settings).responses(name),
  compatible: (name) => createOpenAICompatible({ ...settings, name: "gateway", supportsStructuredOutputs: true })(name),
  anthropic: (name) => createAnthropic(settings)(name),
};
const model = models[KIND];
const shared = { model: model("fake-1"), maxRetries: 0 };
const generate = async (fields) => generateText({ ...shared, ...fields });

await tried({
  ask: async (prompt) => (await generate({ prompt })).text,
  streamed: async () => {
    let text = "";
    for await (const piece of streamText({ ...shared, prompt: "hi" }).textStream) text += piece;
    return text;
  },
  tools: async () => {
    const offered = tool({ description: "Tell the weather.", inputSchema: z.object({ city: z.string() }), execute: weather });
    const prompt = "How is the weather in Lisbon?";
    return (await generate({ prompt, tools: { weather: offered }, stopWhen: stepCountIs(3) })).text;
  },
  schema: async () => {
    const output = Output.object({ schema: z.object({ city: z.string(), people: z.number() }) });
    return (await generate({ prompt: "Lisbon?", output })).output;
  },
  picture: async () => {
    const content = [
      { type: "text", text: "What is it?" },
      { type: "image", image: Buffer.from(PICTURE, "base64"), mediaType: "image/png" },
    ];
    return (await generate({ messages: [{ role: "user", content }] })).text;
  },
  missing: () => generate({ model: model("missing"), prompt: "hi" }),
});
