// For each line that comes: what a strong read of the mark and an eventual one give. For Deno, and for Node with @deno/kv.

import { createInterface } from "node:readline";
import process from "node:process";

const open = globalThis.Deno ? Deno.openKv : (await import("@deno/kv")).openKv;
const kv = await open(process.env.DENO_KV_DEFAULT_PATH);
for await (const _ of createInterface({ input: process.stdin })) {
  const strong = (await kv.get(["mark"], { consistency: "strong" })).value;
  const eventual = (await kv.get(["mark"], { consistency: "eventual" })).value;
  console.log(`${strong} ${eventual}`);
}
kv.close();
