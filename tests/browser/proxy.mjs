/** A TCP proxy before a server, whose connections can be cut. */

import net from "node:net";

export async function passing(url) {
  const { hostname, port } = new URL(url);
  const open = new Set();
  const server = net.createServer((client) => {
    const there = net.connect(Number(port), hostname);
    for (const socket of [client, there]) {
      open.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => { open.delete(socket); client.destroy(); there.destroy(); });
    }
    client.pipe(there).pipe(client);
  });
  await new Promise((resolve) => { server.listen(0, "127.0.0.1", resolve); });
  const cut = () => { for (const socket of open) socket.destroy(); };
  return { url: `http://127.0.0.1:${server.address().port}/`, cut, close: () => { cut(); server.close(); } };
}
