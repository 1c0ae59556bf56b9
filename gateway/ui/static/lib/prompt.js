// A prompt as text with marked blocks, from the body of any of the three formats of requests. Pure.

/** The messages of a body: [{role, texts: [{pointer, text, kind}]}], in the order in which the model reads them. */
export function readPrompt(body) {
  if (!body || typeof body !== "object") return [];
  const messages = [];
  const instructions = body.system ?? body.instructions;
  if (instructions) messages.push({ role: "system", texts: readContent(instructions, body.system ? "/system" : "/instructions") });
  const field = Array.isArray(body.messages) ? "messages" : "input";
  const list = body[field] ?? body.query;
  if (typeof list === "string") messages.push({ role: "user", texts: [{ pointer: body[field] ? `/${field}` : "/query", text: list, kind: "text" }] });
  else if (Array.isArray(list)) list.forEach((message, index) => messages.push(readMessage(message, `/${field}/${index}`)));
  return messages;
}

function readMessage(message, pointer) {
  const role = message.role ?? message.type ?? "?";
  const texts = message.content === undefined ? [] : readContent(message.content, `${pointer}/content`);
  for (const name of ["tool_calls", "arguments", "output"]) {
    if (message[name]) texts.push({ pointer: `${pointer}/${name}`, text: asText(message[name]), kind: name });
  }
  return { role, texts };
}

function readContent(content, pointer) {
  if (typeof content === "string") return [{ pointer, text: content, kind: "text" }];
  if (!Array.isArray(content)) return content === null ? [] : [{ pointer, text: asText(content), kind: "json" }];
  return content.map((part, index) => readPart(part, `${pointer}/${index}`));
}

function readPart(part, pointer) {
  if (typeof part === "string") return { pointer, text: part, kind: "text" };
  if (typeof part?.text === "string") return { pointer: `${pointer}/text`, text: part.text, kind: "text" };
  return { pointer, text: asText(part), kind: part?.type ?? "json" };
}

const asText = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));

/** Splits a text at blocks ({start, end} in code points): [{text, block}], `block` null outside of them. */
export function splitAtBlocks(text, blocks) {
  if (!blocks.length) return [{ text, block: null }];
  const points = Array.from(text);
  const pieces = [];
  let position = 0;
  for (const block of [...blocks].sort((a, b) => a.start - b.start)) {
    if (block.start > position) pieces.push({ text: points.slice(position, block.start).join(""), block: null });
    pieces.push({ text: points.slice(block.start, block.end).join(""), block });
    position = block.end;
  }
  if (position < points.length) pieces.push({ text: points.slice(position).join(""), block: null });
  return pieces;
}

/** The text of an answer that was not streamed, in any of the three formats. */
export function readAnswer(body) {
  const content = body?.choices?.[0]?.message?.content ?? body?.content ?? body?.output_text;
  if (typeof content === "string") return content;
  const parts = Array.isArray(content) ? content : (body?.output ?? []).flatMap((item) => item.content ?? []);
  return parts.map((part) => part.text ?? "").join("");
}
