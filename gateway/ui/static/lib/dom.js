// Rendering: Preact with tagged templates instead of JSX, so that no build step is needed.
import { Fragment, h, render } from "preact";
import htm from "htm";

export { Fragment, h, render };
export { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
export { batch, computed, effect, signal, useComputed, useSignal } from "@preact/signals";

export const html = htm.bind(h);

/** Joins the names of classes, without those that are false. */
export const classes = (...names) => names.filter(Boolean).join(" ");
