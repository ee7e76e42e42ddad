// Random transfers between 100 accounts in a file, until stdin ends; says then what it did and whose writes it saw.
// Arguments: the file, and a name for the writer.
//
// Deno 2.9 does not try again when another process has written between the checks and the writes of its transaction: the
// commit throws "database is locked", also when only Deno is there. Nothing was written then, and the transfer is made
// again; `locked` counts them.

const [path, name] = Deno.args;
const ACCOUNTS = 100;
const SUM = ACCOUNTS * 100;

type Account = { balance: number; by: string };

const kv = await Deno.openKv(path);
const seen = new Set<string>();
let commits = 0, conflicts = 0, sums = 0, locked = 0, over = false;

async function transfer() {
  const from = Math.floor(Math.random() * ACCOUNTS);
  const to = (from + 1 + Math.floor(Math.random() * (ACCOUNTS - 1))) % ACCOUNTS;
  const [a, b] = await kv.getMany<[Account, Account]>([["account", from], ["account", to]]);
  const amount = Math.floor(Math.random() * 10);
  seen.add(a.value!.by).add(b.value!.by);
  const done = await kv.atomic().check(a, b)
    .set(a.key, { balance: a.value!.balance - amount, by: name })
    .set(b.key, { balance: b.value!.balance + amount, by: name })
    .commit();
  if (done.ok) commits++;
  else conflicts++;
}

async function sum() {
  let total = 0;
  for await (const entry of kv.list<Account>({ prefix: ["account"] }, { batchSize: ACCOUNTS })) total += entry.value.balance;
  if (total !== SUM) throw new Error(`the sum is ${total}`);
  sums++;
}

(async () => {
  for await (const _ of Deno.stdin.readable);
  over = true;
})();
console.log("ready");
while (!over) {
  try {
    await transfer();
  } catch (error) {
    if (!(error instanceof TypeError && error.message === "database is locked")) throw error;
    locked++;
  }
  if (Math.random() < 0.02) await sum();
}
kv.close();
console.log(JSON.stringify({ commits, conflicts, sums, locked, seen: [...seen] }));
Deno.exit();
