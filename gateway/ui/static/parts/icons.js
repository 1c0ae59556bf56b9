// Icons, drawn for this console on a grid of 20.
import { html } from "../lib/dom.js";

const SHAPES = {
  turns: "M3 5h14M3 10h14M3 15h9",
  memories: "M4 16V7l6-4 6 4v9M4 16h12M8 16v-5h4v5",
  playground: "M3 4h14v9H9l-4 3v-3H3z",
  health: "M2 11h4l2-6 4 10 2-4h4",
  settings: "M4 6h8M16 6h0M4 14h2M10 14h6M14 4v4M8 12v4",
  users: "M7 9a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM2 17c0-3 2-5 5-5s5 2 5 5M13 4a3 3 0 0 1 0 5M15 12c2 .6 3 2.400 3 5",
  search: "M9 15A6 6 0 1 0 9 3a6 6 0 0 0 0 12zM14 14l4 4",
};

export const Icon = ({ name }) => html`
  <svg viewBox="0 0 20 20" width="16" height="16" fill="none" stroke="currentColor" stroke-width="1.7" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"><path d=${SHAPES[name]} /></svg>`;
