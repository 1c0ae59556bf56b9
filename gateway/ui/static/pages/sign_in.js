// Signing in with a key of the gateway. The key goes into the request's body, and nowhere else.
import { signIn } from "../lib/api.js";
import { html, useEffect, useRef, useState } from "../lib/dom.js";
import { t } from "../lib/i18n.js";
import { Button, describeError, Field } from "../parts/basic.js";

export function SignIn() {
  const input = useRef(null);
  const [error, setError] = useState(null);
  const [isRunning, setRunning] = useState(false);
  useEffect(() => input.current.focus(), []);
  const submit = async (event) => {
    event.preventDefault();
    const key = input.current.value.trim();
    if (!key) return;
    setRunning(true);
    try {
      await signIn(key);
    } catch (failure) {
      setError(failure);
      setRunning(false);
      input.current?.focus();
    }
  };
  return html`
    <main class="sign-in">
      <form class="card card-body" onSubmit=${submit}>
        <h1><img src="/ui/icon.svg" alt="" width="28" height="28" /> Memory Gateway</h1>
        <p class="muted">${t("session.intro")}</p>
        <${Field} label=${t("session.key")}><input ref=${input} class="input" type="password" autocomplete="current-password" required spellcheck=${false} /><//>
        ${error && html`<p class="note note-bad" role="alert">${error.status === 401 ? t("session.unknown_key") : describeError(error)}</p>`}
        <${Button} type="submit" kind="main" disabled=${isRunning}>${t("session.sign_in")}<//>
        <p class="small muted">${t("session.privacy")}</p>
      </form>
    </main>`;
}
