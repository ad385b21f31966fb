"use strict";

const http = require("node:http");
const { greeting } = require("./greeting.js");

const server = http.createServer((request, response) => {
  response.end(`${greeting}\n`);
});

server.listen(3000, () => console.log("node-service listens on 3000"));
process.on("SIGTERM", () => server.close(() => process.exit(0)));
