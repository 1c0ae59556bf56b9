// The prompt as the model got it, with the block of memories marked.
import { html } from "../lib/dom.js";
import { formatNumber } from "../lib/format.js";
import { t } from "../lib/i18n.js";
import { readPrompt, splitAtBlocks } from "../lib/prompt.js";
import { Code, Note } from "./basic.js";

const LONG = 6000; // characters of a text that are shown at first

export function Prompt({ explanation }) {
  const prompt = explanation?.prompt;
  if (!prompt) return html`<${Withheld} explanation=${explanation} />`;
  const messages = readPrompt(prompt.body);
  if (!messages.length) return html`<${Code} text=${JSON.stringify(prompt.body, null, 2)} />`;
  const blocks = prompt.blocks ?? [];
  return html`
    ${blocks.length === 0 && html`<p class="muted">${t("why.no_block")}</p>`}
    <ol class="prompt">${messages.map((message, index) => html`
      <li key=${index} class=${`card message message-${message.role}`}>
        <div class="message-role">${message.role}</div>
        ${message.texts.map((part) => html`<${Text} key=${part.pointer} part=${part} blocks=${blocks.filter((block) => block.pointer === part.pointer)} />`)}
      </li>`)}
    </ol>`;
}

function Text({ part, blocks }) {
  if (part.kind !== "text") return html`<details><summary>${part.kind}</summary><pre>${part.text}</pre></details>`;
  if (part.text.length > LONG && !blocks.length) {
    return html`<details><summary>${t("why.long_text", { count: formatNumber(part.text.length), start: part.text.slice(0, 120) })}</summary><pre>${part.text}</pre></details>`;
  }
  return html`<pre>${splitAtBlocks(part.text, blocks).map((piece) => (piece.block ? html`<mark class=${piece.block.is_current ? "block" : "block block-earlier"} title=${t(piece.block.is_current ? "why.block" : "why.block_earlier")}>${piece.text}</mark>` : piece.text))}</pre>`;
}

function Withheld({ explanation }) {
  const block = explanation?.injected?.text;
  const reason = !explanation ? "why.gone" : explanation.prompt_omitted === "too_large" ? "why.prompt_too_large" : explanation.content === false ? "why.content_off" : "why.no_prompt";
  return html`<${Note}>${t(reason)}<//>${block && html`<h3>${t("why.block")}</h3><pre class="card card-body block">${block}</pre>`}`;
}
