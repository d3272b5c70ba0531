// The hello function in TypeScript: a listener for `fetch` events, as in a
// service worker.
//
// Kind:  wasi:http 0.2 component (the JavaScript engine StarlingMonkey inside).
// Build: esbuild hello.ts --bundle --format=esm --outfile=hello.js
//        componentize-js hello.js --wit wit --world-name http --out js-hello.wasm

addEventListener("fetch", (event) => {
  event.respondWith(
    new Response("hello from js\n", { headers: { "content-type": "text/plain" } }),
  );
});
