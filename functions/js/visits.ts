// Counts the visits of each page in a store of keys and values: `/about` answers
// `about: 3 visits`. It is capabilities/visits in TypeScript.
//
// Needs the setting `grants.keyvalue.default`.
//
// Kind:  wasi:http 0.2 component (the JavaScript engine StarlingMonkey inside).
// Build: esbuild visits.ts --bundle --format=esm --external:mayfly:* --outfile=visits.js
//        componentize-js visits.js --wit wit --world-name stores --out js-visits.wasm

import { Bucket } from "mayfly:keyvalue/store@0.1.0";

addEventListener("fetch", (event) => {
  event.respondWith(count(new URL(event.request.url).pathname));
});

async function count(path: string): Promise<Response> {
  const page = path.split("/").filter((part) => part !== "").pop() ?? "home";
  const visits = Bucket.open("");
  const count = visits.increment(page, 1n);
  return new Response(`${page}: ${count} visits\n`, { headers: { "content-type": "text/plain" } });
}
