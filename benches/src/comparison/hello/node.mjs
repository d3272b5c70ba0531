// The smallest hello server for Node.js. Started as `node node.mjs PORT`.
import { createServer } from "node:http";

const body = "hello from node\n";
const head = { "content-type": "text/plain", "content-length": body.length };

createServer((_request, response) => {
  response.writeHead(200, head);
  response.end(body);
}).listen(Number(process.argv[2]), "127.0.0.1");
