// Counts to the number that the argument says, in the database that the environment names, with @deno/kv: one line a count.
// "watch" instead: prints each value of the counter until it has reached the number that follows.

import { openKv } from "@deno/kv";

const kv = await openKv(process.env.DENO_KV_DEFAULT_PATH);
if (process.argv[2] === "watch") {
  const until = Number(process.argv[3]);
  for await (const [entry, other] of kv.watch([["requests"], ["other"]])) {
    console.log(`${entry.value} ${other.value}`);
    if (entry.value >= until) break;
  }
} else {
  for (let i = 0; i < Number(process.argv[2]); i++) {
    const { value, versionstamp } = await kv.get(["requests"]);
    const requests = value + 1;
    const { ok } = await kv.atomic().check({ key: ["requests"], versionstamp }).set(["requests"], requests).sum(["sum"], 1n).commit();
    if (!ok) throw new Error("somebody else counts here");
    console.log(requests);
  }
  const found = [];
  for await (const entry of kv.list({ prefix: [] })) found.push(entry.key.join());
  console.log(found.join(" "));
}
kv.close();
