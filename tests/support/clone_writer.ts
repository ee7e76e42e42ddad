// What tests/clone_writer.py does, in real Deno. Arguments: the database, the file of counters, the writer's number.

const [path, counters, writer] = Deno.args;
const ACCOUNTS = 100;

const kv = await Deno.openKv(path);
const progress = Deno.openSync(counters, { write: true });
let over = false, longest = 0;

function report(place: number, n: number) {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(n), true);
  progress.seekSync((2 * Number(writer) + place) * 8, Deno.SeekMode.Start);
  progress.writeSync(bytes);
}

async function transfer(n: number): Promise<boolean> {
  const from = Math.floor(Math.random() * ACCOUNTS);
  const to = (from + 1 + Math.floor(Math.random() * (ACCOUNTS - 1))) % ACCOUNTS;
  const [a, b] = await kv.getMany<[number, number]>([["account", from], ["account", to]]);
  const since = performance.now();
  const done = await kv.atomic().check(a, b).set(a.key, a.value! - 1).set(b.key, b.value! + 1)
    .set(["last", +writer], n).set(["log", +writer, n], "x".repeat(Math.floor(Math.random() * 2000))).commit();
  longest = Math.max(longest, performance.now() - since);
  return done.ok;
}

(async () => {
  for await (const _ of Deno.stdin.readable);
  over = true;
})();
console.log("ready");
for (let n = 1; !over; n++) {
  report(0, n);
  let done = false;
  while (!done && !over) {
    try {
      done = await transfer(n);
    } catch (error) { // another process was faster, and nothing was written
      if (!(error instanceof TypeError && error.message === "database is locked")) throw error;
    }
  }
  if (done) report(1, n);
}
kv.close();
console.log(longest);
Deno.exit();
