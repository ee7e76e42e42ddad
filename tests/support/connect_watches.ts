// As many watches as the second argument says, over one connection, and reads and writes beside them: prints how many watches saw
// the last write. Arguments: the URL, the count.

const kv = await Deno.openKv(Deno.args[0]);
const count = Number(Deno.args[1]);
const readers = Array.from({ length: count }, (_, i) => kv.watch([["key", i % 10]]).getReader());
for (const reader of readers) await reader.read();
for (let i = 0; i < 10; i++) await kv.set(["key", i], "written");
let seen = 0;
for (const reader of readers) {
  const { value } = await reader.read();
  if (value![0].value === "written") seen++;
}
console.log(seen, (await kv.get(["key", 0])).value);
await Promise.all(readers.map((reader) => reader.cancel()));
kv.close();
