// Saving an answer of the API as a file; fetched, since a session needs the console's header.
import { send } from "../lib/api.js";

const SECONDS = 600;

export async function downloadExport(address, name) {
  const response = await send("GET", address, { headers: { accept: "*/*" }, seconds: SECONDS });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
