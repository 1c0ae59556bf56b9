// The data of the page on health: metrics, readiness, upstreams, the latest turns, recorded usage.
import { ApiError, getJson, send, url } from "./api.js";
import { useEffect, useRef, useState } from "./dom.js";
import { useLoad } from "./load.js";
import { parseMetrics } from "./metrics.js";

const PAGE_SIZE = 1000;
const MOST_TURNS = 5000;
const USAGE_SECONDS = 60;

/** Null where a key may not see something, or the gateway does not record it: the page shows the rest. */
const orNothing = (error) => {
  if (error instanceof ApiError && (error.status === 403 || error.status === 404)) return null;
  throw error;
};

/** {metrics, ready, upstreams, turns, at}. `turns`: {list (newest first), since, isPinned}, or null. */
export function useHealth() {
  const turns = useRef(null);
  return useLoad("health", async (signal) => {
    const text = await (await send("GET", "/metrics", { signal, headers: { accept: "text/plain" } })).text(); // alone, since it counts requests in progress
    const [ready, upstreams, latest] = await Promise.all([
      getJson("/ready", { signal }).catch((error) => (error.status === 503 ? { ready: false } : Promise.reject(error))),
      getJson("/v1/gateway/upstreams", { signal }).catch(orNothing),
      loadTurns(turns.current, signal).catch(orNothing),
    ]);
    turns.current = latest;
    return { metrics: parseMetrics(text), ready, upstreams: upstreams?.data ?? null, turns: latest, at: Date.now() / 1000 };
  });
}

const readTurn = (turn) => ({ ...turn, time: Date.parse(turn.at) / 1000, query: undefined });

/** Adds the turns since the last time, or loads the latest. `since`: nothing is known of the time before. */
async function loadTurns(before, signal) {
  const fresh = before ? await getJson(url("/v1/turns", { limit: PAGE_SIZE, after: before.latest }), { signal }) : null;
  if (before && !fresh.has_more && fresh.latest >= before.latest) {
    const list = fresh.data.length ? [...fresh.data.map(readTurn), ...before.list].slice(0, MOST_TURNS) : before.list;
    return { ...before, list, latest: Math.max(before.latest, fresh.latest), since: list.at(-1)?.time ?? before.since };
  }
  const list = [];
  let page = null;
  do {
    page = await getJson(url("/v1/turns", { limit: PAGE_SIZE, before: list.at(-1)?.seq }), { signal });
    list.push(...page.data.map(readTurn));
  } while (page.has_more && page.data.length && list.length < MOST_TURNS);
  return { list, latest: list[0]?.seq ?? page.latest ?? 0, since: list.at(-1)?.time ?? Infinity };
}

/** Recorded usage by hour and model within a window, asked for once a minute; null where it cannot be seen. */
export function useUsage({ from, to }, isWanted) {
  const [tick, setTick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => document.hidden || setTick((count) => count + 1), USAGE_SECONDS * 1000);
    return () => clearInterval(timer);
  }, []);
  const hours = [Math.floor(from / 3600) * 3600, Math.ceil(to / 3600) * 3600];
  const state = useLoad(`${isWanted} ${hours} ${tick}`, async (signal) => {
    if (!isWanted) return null;
    const parameters = { by: "hour,model", since: moment(hours[0]), until: moment(hours[1]) };
    return getJson(url("/v1/usage", parameters), { signal }).catch(orNothing);
  });
  return isWanted ? state.data : null;
}

const moment = (seconds) => new Date(seconds * 1000).toISOString();
