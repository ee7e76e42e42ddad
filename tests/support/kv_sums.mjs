// Deno's own backend behind lines of JSON: {"db", "write"} with an AtomicWrite of KV Connect in hexadecimal, answered by its
// output or the error. What Deno's API does not offer, the bounds of a sum, is asked here. Arguments: where @deno/kv is installed.

import { createInterface } from "node:readline";
import { createRequire } from "node:module";

const native = createRequire(import.meta.url)(process.argv[2] + "/node_modules/@deno/kv/esm/_napi_index.cjs");
const databases = new Map();

for await (const line of createInterface({ input: process.stdin })) {
  const { db, write } = JSON.parse(line);
  if (!databases.has(db)) databases.set(db, native.open(db, false, false));
  let answer;
  try {
    const output = await native.atomicWrite(databases.get(db), Buffer.from(write, "hex"), false);
    answer = { output: output.toString("hex") };
  } catch (error) {
    answer = { error: String(error.message) };
  }
  console.log(JSON.stringify(answer));
}
