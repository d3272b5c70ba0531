// Requests `/0`, `/1` and so on from a server on this machine and prints each response, as Node.js
// (llhttp) parses it, as a line of JSON. Arguments: the server's port, the number of requests.

const http = require("node:http");

const [port, count] = process.argv.slice(2).map(Number);

function read(n) {
  return new Promise((resolve) => {
    const options = { host: "127.0.0.1", port, path: `/${n}`, agent: false };
    const request = http.get(options, (response) => {
      const pieces = [];
      response.on("data", (piece) => pieces.push(piece));
      // `close` follows, and reports an incomplete response.
      response.on("error", () => {});
      response.on("close", () => {
        resolve({
          whole: response.complete,
          status: response.statusCode,
          headers: response.rawHeaders,
          body: Buffer.concat(pieces).toString("latin1"),
          trailers: response.rawTrailers,
        });
      });
    });
    request.on("error", (error) => resolve({ whole: false, error: error.code }));
  });
}

let next = 0;

async function readAll() {
  while (next < count) {
    const n = next++;
    console.log(JSON.stringify({ n, ...(await read(n)) }));
  }
}

for (let reader = 0; reader < 8; reader++) readAll();
