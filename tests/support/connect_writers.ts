// Writers of one database, each in its own loop: arguments are its URL and how many. Each commit is printed when it is acknowledged,
// as "writer number versionstamp". They end, with what is under way, when stdin does.

const kv = await Deno.openKv(Deno.args[0]);
const writers = Number(Deno.args[1]);
const line = new TextEncoder();
let ending = false;

async function write(writer: number) {
  for (let number = 1; !ending; number++) {
    const { versionstamp } = await kv.atomic()
      .set(["log", writer, number], number)
      .set(["last", writer], number)
      .sum(["count"], 1n)
      .commit() as Deno.KvCommitResult;
    Deno.stdout.writeSync(line.encode(`${writer} ${number} ${versionstamp}\n`));
  }
}

const all = Promise.all(Array.from({ length: writers }, (_, writer) => write(writer)));
for await (const _ of Deno.stdin.readable);
ending = true;
await all;
kv.close();
