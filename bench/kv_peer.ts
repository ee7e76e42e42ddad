// The peer of bench/kv.py and bench/connect.py: real Deno on a file or at a URL. Reads lines `what count`, answers each with its seconds.
const kv = await Deno.openKv(Deno.args[0]);
const VALUE = "x".repeat(100);
const LARGE = "x".repeat(5000);

async function fill(count: number) {
  for (let start = 0; start < count; start += 500) {
    const atomic = kv.atomic();
    for (let number = start; number < Math.min(count, start + 500); number++) atomic.set(["entry", number], VALUE);
    await atomic.commit();
  }
}

async function get(count: number) {
  for (let turn = 0; turn < count; turn++) await kv.get(["entry", Math.floor(Math.random() * 100000)]);
}

async function get64(count: number) {
  const reader = async () => {
    for (let turn = 0; turn < count / 64; turn++) await kv.get(["entry", Math.floor(Math.random() * 100000)]);
  };
  await Promise.all(Array.from({ length: 64 }, reader));
}

async function large(count: number) {
  for (let turn = 0; turn < count; turn++) await kv.set(["large", turn], LARGE);
}

async function set(count: number) {
  for (let turn = 0; turn < count; turn++) await kv.set(["set", turn], VALUE);
}

async function set64(count: number) {
  const writer = async (number: number) => {
    for (let turn = 0; turn < count / 64; turn++) await kv.set(["set", number, turn], VALUE);
  };
  await Promise.all(Array.from({ length: 64 }, (_, number) => writer(number)));
}

async function list(count: number) {
  let seen = 0;
  for await (const _ of kv.list({ prefix: ["entry"] }, { batchSize: 500 })) seen++;
  if (seen !== count) throw new Error(`${seen} entries`);
}

const work: Record<string, (count: number) => Promise<void>> = { fill, get, get64, set, large, set64, list };
const decoder = new TextDecoder();
let text = "";
for await (const chunk of Deno.stdin.readable) {
  text += decoder.decode(chunk);
  for (let end; (end = text.indexOf("\n")) >= 0; text = text.slice(end + 1)) {
    const [what, count] = text.slice(0, end).split(" ");
    const start = performance.now();
    await work[what](Number(count));
    console.log((performance.now() - start) / 1000);
  }
}
