const kv = await Deno.openKv();
await kv.get(["entry", 1]);
kv.close();
