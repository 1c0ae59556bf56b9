// What each client is tried with; see ../matrix/scenarios.py, which is the same for Python.

import { setTimeout } from "node:timers/promises";

export const [BASE_URL, PICTURE, KIND] = process.argv.slice(2);
export const USER = { "x-memory-user": "ada" };
export const WEATHER = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
export const CITY = { type: "object", properties: { city: { type: "string" }, people: { type: "integer" } } };
export const weather = ({ city }) => `sunny in ${city}`;

const statusOf = (error) => {
  for (let seen = error; seen; seen = seen.lastError ?? seen.cause) {
    const status = seen.statusCode ?? seen.status;
    if (typeof status === "number") return status;
  }
  throw error;
};

export const tried = async ({ ask, missing, ...scenarios }) => {
  const found = { told: await ask("My cat is called Miso.") };
  for (const [name, scenario] of Object.entries(scenarios)) found[name] = await scenario();
  found.missing = await missing().catch(statusOf);
  await setTimeout(1500); // what was said is found a second later
  found.asked = await ask("What is the name of my cat?");
  console.log(JSON.stringify(found));
};
