// Data of a page: loaded when its address changes, with the states that every page shows.
import { useCallback, useEffect, useRef, useState } from "./dom.js";

/**
 * Loads data whenever `key` changes. Returns {data, error, isLoading, reload, setData}. Earlier data stays visible
 * while the next is loaded; an answer that is overtaken by a later request is dropped.
 */
export function useLoad(key, load) {
  const [state, setState] = useState({ data: null, error: null, isLoading: true });
  const running = useRef(null);
  const latest = useRef(load);
  latest.current = load;
  const reload = useCallback(async () => {
    running.current?.abort();
    const control = new AbortController();
    running.current = control;
    setState((before) => ({ ...before, isLoading: true }));
    try {
      const data = await latest.current(control.signal);
      if (running.current === control) setState({ data, error: null, isLoading: false });
    } catch (error) {
      if (running.current === control && !control.signal.aborted) setState((before) => ({ ...before, error, isLoading: false }));
    }
  }, []);
  useEffect(() => {
    reload();
    return () => running.current?.abort();
  }, [key]);
  const setData = useCallback((change) => setState((before) => ({ ...before, data: typeof change === "function" ? change(before.data) : change })), []);
  return { ...state, reload, setData };
}

/** Calls `tick` every `seconds` while the page is visible. */
export function useInterval(tick, seconds) {
  const latest = useRef(tick);
  latest.current = tick;
  useEffect(() => {
    const timer = setInterval(() => document.hidden || latest.current(), seconds * 1000);
    return () => clearInterval(timer);
  }, [seconds]);
}
