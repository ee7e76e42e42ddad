// Counts requests. It knows nothing of branches: which database it counts in, its environment says.
const kv = await Deno.openKv();

Deno.serve({
  hostname: "127.0.0.1",
  port: 0,
  onListen: ({ port }) => console.log(port),
}, async () => {
  const entry = await kv.get<number>(["requests"]);
  const requests = (entry.value ?? 0) + 1;
  await kv.set(["requests"], requests);
  return Response.json(requests);
});
