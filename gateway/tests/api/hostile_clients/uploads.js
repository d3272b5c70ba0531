// Sends bodies to a server that answers before it has read them, and checks each answer.
//
//   node uploads.js URL BYTES COUNT ANSWER

"use strict";
const http = require("node:http");
const http2 = require("node:http2");

const [url, bytes, count, expected] = process.argv.slice(2);
const body = Buffer.alloc(Number(bytes), 7);

function check(client, status, text) {
  if (status !== 200 || text !== expected) throw new Error(`${client}: ${status} ${text}`);
}

function collect(stream, done) {
  let text = "";
  stream.setEncoding("utf8");
  stream.on("data", (piece) => { text += piece; });
  stream.on("end", () => done(text));
}

// Each on a new connection.
function overHttp() {
  return new Promise((resolve, reject) => {
    const request = http.request(url, { method: "POST", agent: false }, (response) => {
      collect(response, (text) => resolve(check("http", response.statusCode, text)));
    });
    request.on("error", reject);
    request.end(body);
  });
}

// On connections that it keeps.
async function overFetch() {
  const response = await fetch(url, { method: "POST", body });
  check("fetch", response.status, await response.text());
}

// Until the stream is closed: Node.js itself resets streams when a session buffers 10 MB.
function overHttp2(session) {
  return new Promise((resolve, reject) => {
    let status, text;
    const request = session.request({ ":method": "POST", ":path": new URL(url).pathname });
    request.on("response", (headers) => { status = headers[":status"]; });
    request.on("error", reject);
    request.on("close", () => resolve(check("http2", status, text)));
    collect(request, (whole) => { text = whole; });
    request.end(body);
  });
}

(async () => {
  const session = http2.connect(url);
  for (let each = 0; each < count; each += 1) {
    await overHttp();
    await overFetch();
    await overHttp2(session);
  }
  session.close();
})().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
