// Pages that are loaded when they are shown for the first time, so that opening the console loads one of them.
import { send } from "../lib/api.js";
import { html, useEffect, useState } from "../lib/dom.js";
import { ErrorNote, Loading } from "./basic.js";

/** A component that loads its module first; `name`: the component's name there. */
export function lazy(load, name) {
  let Page = null;
  return function LazyPage(props) {
    const [isLoaded, setLoaded] = useState(Page !== null);
    const [error, setError] = useState(null);
    useEffect(() => {
      if (isLoaded) return;
      load().then((module) => {
        Page = module[name];
        setLoaded(true);
      }, setError);
    }, []);
    // a module that failed is not asked for again, so the whole console is; but not from a gateway that is away
    const retry = () => send("GET", "/health").then(() => location.reload(), setError);
    if (error) return html`<${ErrorNote} error=${error} retry=${retry} />`;
    return isLoaded ? html`<${Page} ...${props} />` : html`<${Loading} />`;
  };
}
