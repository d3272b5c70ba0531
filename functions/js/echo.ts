// Sends the request's body back while it arrives: the request's stream becomes
// the response's stream.
//
// The response also has x-echo-method, x-echo-path, and a copy of every
// request header whose name starts with x-test-.
//
// Kind:  wasi:http 0.2 component (the JavaScript engine StarlingMonkey inside).
// Build: esbuild echo.ts --bundle --format=esm --outfile=echo.js
//        componentize-js echo.js --wit wit --world-name http --out js-echo.wasm

addEventListener("fetch", (event) => event.respondWith(echo(event.request)));

function echo(request: Request): Response {
  const url = new URL(request.url);
  const headers = new Headers({
    "content-type": request.headers.get("content-type") ?? "application/octet-stream",
    "x-echo-method": request.method,
    "x-echo-path": url.pathname + url.search,
  });
  for (const [name, value] of request.headers) {
    if (name.startsWith("x-test-")) headers.append(name, value);
  }
  return new Response(request.body, { headers });
}
