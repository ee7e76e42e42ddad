// Every operation of Deno KV that KV Connect carries, on the database that the first argument names, a file or a URL; the other
// arguments name the parts to do. Prints one JSON line for each: {"name", "ok"} or {"name", "error"}. Versionstamps stand as
// numbers in the order in which they were first seen, so that two databases which do the same print the same.

// deno-lint-ignore-file no-explicit-any
const kv: any = await Deno.openKv(Deno.args[0]);
const stamps: string[] = [];

function text(value: unknown): string {
  return Deno.inspect(value, { depth: 20, strAbbreviateSize: 1000, iterableLimit: 2000, breakLength: Infinity, compact: true, sorted: false })
    .replaceAll(/(?<![0-9a-f])[0-9a-f]{16}0000(?![0-9a-f])/g, (stamp) => {
      if (!stamps.includes(stamp)) stamps.push(stamp);
      return `#${stamps.indexOf(stamp)}`;
    });
}

async function say(name: string, work: () => unknown) {
  let line: Record<string, string>;
  try {
    line = { name, ok: text(await work()) };
  } catch (error) {
    line = { name, error: text((error as Error)?.constructor?.name) + " " + text((error as Error)?.message) };
  }
  console.log(JSON.stringify(line));
}

const bytes = (length: number, fill = 1) => new Uint8Array(length).fill(fill);
const u64 = (value: bigint) => new Deno.KvU64(value);
const stamp = async (key: any[]) => (await kv.get(key)).versionstamp;

async function listed(selector: any, options?: any): Promise<any> {
  const iterator = kv.list(selector, options);
  const keys = [];
  for await (const entry of iterator) keys.push([entry.key, entry.value, entry.versionstamp]);
  return [keys, iterator.cursor];
}

async function values() {
  const cyclic: any = { n: 1 };
  cyclic.self = cyclic;
  const all: [string, any][] = Object.entries({
    zero: 0, minus: -0, half: 0.5, big: 2 ** 60, nan: NaN, infinity: -Infinity, empty: "", latin: "é", wide: "漢字 😀",
    lone: "\ud800", yes: true, no: false, nothing: null, missing: undefined, bigint: -(2n ** 70n), none: 0n, array: [1, "a", null, 1.5],
    holes: [1, , 3], object: { b: 1, 1: 2, "é": 3 }, date: new Date(1700000000123), regexp: /a+/i, map: new Map<any, any>([[1, { x: 1 }]]),
    set: new Set(["only"]), bytes: new Uint8Array([0, 255]), buffer: new Uint8Array([1, 2]).buffer, view: new Int16Array([1, 2]),
    u64: u64(2n ** 64n - 1n), error: new RangeError("boom"), cyclic, large: bytes(65_536), long: "x".repeat(65_000),
  });
  for (const [name, value] of all) {
    await say(`value ${name} set`, () => kv.set(["value", name], value));
    await say(`value ${name} get`, async () => {
      const entry = await kv.get(["value", name]);
      if (entry.value instanceof Error) entry.value = [entry.value.name, entry.value.message];
      if (entry.value?.length > 1000) entry.value = [entry.value.length, entry.value.constructor.name, entry.value.at(-1)];
      return entry;
    });
  }
  for (const [name, value] of [["symbol", Symbol("s")], ["function", () => 1], ["u64 within", { n: u64(1n) }], ["promise", Promise.resolve()]]) {
    await say(`value ${String(name)} refused`, () => kv.set(["value", "bad"], value));
  }
}

async function keys() {
  const parts: any[] = [
    bytes(0), bytes(2, 0), bytes(1, 255), "", "a\0b", "漢", 0, -0, 1, -1.5, 2 ** 60, NaN, Infinity, -Infinity, 0n, 5n, -5n, 2n ** 64n, -(2n ** 80n),
    2n ** 2000n, true, false,
  ];
  for (const part of parts) await say(`key ${text(part)}`, () => kv.set(["key", part], text(part)));
  await say("key order", () => listed({ prefix: ["key"] }));
  await say("key order reversed", () => listed({ prefix: ["key"] }, { reverse: true, batchSize: 3 }));
  for (const part of parts) await say(`key ${text(part)} get`, () => kv.get(["key", part]));
  await say("key of many parts", () => kv.set(["key", ...parts], 1));
  await say("key of many parts get", () => kv.get(["key", ...parts]));
  for (const bad of [[], [null], [{}], ["a", undefined], [2n ** 2041n], "text"]) {
    await say(`key ${text(bad).slice(0, 40)} set`, () => kv.set(bad, 1));
    await say(`key ${text(bad).slice(0, 40)} get`, () => kv.get(bad));
    await say(`key ${text(bad).slice(0, 40)} delete`, () => kv.delete(bad));
  }
}

async function reads() {
  for (let i = 0; i < 25; i++) await kv.set(["read", i % 5, i], i);
  const all = Array.from({ length: 10 }, (_, i) => ["read", i % 5, i]);
  await say("getMany", () => kv.getMany(all));
  await say("getMany with absent ones", () => kv.getMany([["read", 0, 0], ["absent"], ["read", 0, 0]]));
  await say("getMany none", () => kv.getMany([]));
  await say("getMany eventual", () => kv.getMany(all.slice(0, 2), { consistency: "eventual" }));
  await say("getMany 11", () => kv.getMany([...all, ["read"]]));
  await say("get eventual", () => kv.get(["read", 1, 1], { consistency: "eventual" }));
  const selectors: any[] = [
    { prefix: [] }, { prefix: ["read"] }, { prefix: ["read", 2] }, { prefix: ["read", 2, 7] }, { prefix: ["nothing"] }, { prefix: ["rea"] },
    { prefix: ["read"], start: ["read", 3] }, { prefix: ["read"], end: ["read", 1, 6] }, { start: ["read", 1], end: ["read", 3] },
    { start: ["read", 3], end: ["read", 1] }, { start: ["read", 3], end: ["read", 3] }, { prefix: ["read"], start: ["x"] }, { start: ["read"] }, {},
    { prefix: ["read"], start: ["read", 1], end: ["read", 2] }, { prefix: [bytes(2047)] }, { prefix: [bytes(2048)] },
  ];
  const options: any[] = [
    {}, { limit: 3 }, { reverse: true }, { reverse: true, limit: 4 }, { batchSize: 1, limit: 3 }, { batchSize: 7 }, { consistency: "eventual" },
    { batchSize: 1000 }, { limit: 1001 },
  ];
  for (const selector of selectors.slice(1)) {
    for (const option of options) await say(`list ${text(selector).slice(0, 60)} ${text(option)}`, () => listed(selector, option));
  }
  for (const bad of [{ batchSize: 1001 }, { batchSize: 0 }, { limit: 0 }, { limit: -1 }, { limit: 1.5 }, { cursor: "x" }, { cursor: "_w==" }]) {
    await say(`list with ${text(bad)}`, () => listed({ prefix: ["read"] }, bad));
  }
  for (const reverse of [false, true]) {
    await say(`list page by page${reverse ? " reversed" : ""}`, async () => {
      const pages = [];
      for (let cursor: string | undefined = undefined; cursor !== "";) {
        const [page, next] = await listed({ prefix: ["read"] }, { limit: 7, reverse, cursor });
        pages.push([page.length, page.at(-1), next]);
        cursor = next;
      }
      return pages;
    });
  }
}

async function mutations() {
  const set = (key: any[], value: any) => kv.set(key, value);
  const atomic = (build: (operation: any) => any) => () => build(kv.atomic()).commit();
  await say("atomic without anything", atomic((op) => op));
  await say("check of an absent key", atomic((op) => op.check({ key: ["m", 1], versionstamp: null }).set(["m", 1], 1)));
  await say("check that fails", atomic((op) => op.check({ key: ["m", 1], versionstamp: null }).set(["m", 1], 2)));
  await say("check that holds", async () => await atomic((op) => op.set(["m", 1], 3)).call(null));
  const now = await stamp(["m", 1]);
  await say("checks of which one fails", atomic((op) => op.check({ key: ["m", 1], versionstamp: now }, { key: ["m", 2], versionstamp: now }).delete(["m", 1])));
  await say("checks that hold", atomic((op) => op.check({ key: ["m", 1], versionstamp: now }, { key: ["m", 2], versionstamp: null }).set(["m", 1], 4)));
  await say("check alone", atomic((op) => op.check({ key: ["m", 2], versionstamp: null })));
  await say("check with a bad versionstamp", atomic((op) => op.check({ key: ["m", 2], versionstamp: "x" })));
  await say("check of an empty key", atomic((op) => op.check({ key: [], versionstamp: null })));
  await say("what the checks left", () => listed({ prefix: ["m"] }));
  await say("order within one", atomic((op) => op.set(["m", 1], 1).delete(["m", 1]).set(["m", 3], 1).set(["m", 3], 2).sum(["m", 4], 1n).sum(["m", 4], 2n).delete(["m", 9])));
  await say("what the order left", () => listed({ prefix: ["m"] }));
  await say("delete", () => kv.delete(["m", 3]));
  await say("delete of an absent key", () => kv.delete(["m", 3]));
  await say("versionstamped", atomic((op) => op.set(["v", kv.commitVersionstamp()], 1).set(["v", "x", kv.commitVersionstamp()], 2)));
  await say("versionstamped alone", () => kv.set(["v", kv.commitVersionstamp()], 3));
  await say("what is versionstamped", () => listed({ prefix: ["v"] }));
  await say("versionstamp not at the end", () => kv.set(["v", kv.commitVersionstamp(), 1], 3));
  await say("1,000 mutations", atomic((op) => { for (let i = 0; i < 1000; i++) op.set(["many", i], i); return op; }));
  await say("100 checks", atomic((op) => { for (let i = 0; i < 100; i++) op.check({ key: ["none", i], versionstamp: null }); return op.set(["hundred"], 1); }));
  await say("a list in batches of 500", async () => (await listed({ prefix: ["many"] }, { batchSize: 500 }))[0].length);
  await say("a list in batches of 1,000", async () => (await listed({ prefix: ["many"] }, { batchSize: 1000 }))[0].length);
  await say("a list beyond a batch's bytes", async () => {
    for (let i = 0; i < 40; i++) await set(["heavy", i], bytes(65_536, i));
    return (await listed({ prefix: ["heavy"] }, { batchSize: 40 }))[0].map((entry: any) => entry[1].length + entry[1][0]);
  });
  await say("800,000 bytes in one", atomic((op) => { for (let i = 0; i < 12; i++) op.set(["wide", i], bytes(65_536)); return op; }));
  await say("100 sums at once", async () => {
    await Promise.all(Array.from({ length: 100 }, () => kv.atomic().sum(["hits"], 1n).commit()));
    return (await kv.get(["hits"])).value;
  });
}

async function sums() {
  const stored: any = { absent: undefined, number: 1, bigint: 1n, u64: u64(1n), top: u64(2n ** 64n - 1n), text: "x", bytes: bytes(2), null: null, object: {}, date: new Date(0) };
  const operands: any = { number: 2, fraction: 0.5, bigint: 2n, negative: -1n, huge: 2n ** 64n, u64: u64(2n), text: "x", null: null, bytes: bytes(8) };
  for (const type of ["sum", "min", "max"]) {
    for (const [before, value] of Object.entries(stored)) {
      for (const [name, operand] of Object.entries(operands)) {
        for (const how of ["mutate", "method"]) {
          await kv.delete(["sum"]);
          if (before !== "absent") await kv.set(["sum"], value);
          const operation = () => how === "mutate" ? kv.atomic().mutate({ type, key: ["sum"], value: operand }) : kv.atomic()[type](["sum"], operand);
          await say(`${how} ${type} of ${before} with ${name}`, () => operation().commit());
          await say(`${how} ${type} of ${before} with ${name} left`, async () => (await kv.get(["sum"])).value);
        }
      }
    }
  }
}

async function limits() {
  const many = (count: number, add: (operation: any, i: number) => unknown) => () => {
    const operation = kv.atomic();
    for (let i = 0; i < count; i++) add(operation, i);
    return operation.commit();
  };
  const key = (length: number) => [bytes(length - 2)];
  const length = (work: () => any) => async () => { const found = await work(); return found?.key ? [found.key[0].length, found.value] : found; };
  const attempts: Record<string, () => unknown> = {
    "key of 2048": () => kv.set(key(2048), 1), "key of 2049": () => kv.set(key(2049), 1), "get of 2048": length(() => kv.get(key(2048))),
    "get of 2049": length(() => kv.get(key(2049))), "get of 2050": () => kv.get(key(2050)), "delete of 2048": () => kv.delete(key(2048)),
    "delete of 2049": () => kv.delete(key(2049)), "check of 2048": many(1, (op) => op.check({ key: key(2048), versionstamp: null })),
    "check of 2049": many(1, (op) => op.check({ key: key(2049), versionstamp: null })), "check of 2050": many(1, (op) => op.check({ key: key(2050), versionstamp: null })),
    "sum of 2049": many(1, (op) => op.sum(key(2049), 1n)), "versionstamped key of 2048": () => kv.set([...key(2048), kv.commitVersionstamp()], 1),
    "versionstamped key of 2049": () => kv.set([...key(2049), kv.commitVersionstamp()], 1),
    "value of 65536": () => kv.set(["a"], bytes(65_536)), "value of 65537": () => kv.set(["a"], bytes(65_537)), "text of 65536": () => kv.set(["a"], "x".repeat(65_536)),
    "101 checks": many(101, (op) => op.check({ key: ["none"], versionstamp: null })), "1001 deletes": many(1001, (op) => op.delete(["none"])),
    "1001 sets": many(1001, (op, i) => op.set(["none", i], 1)), "13 values of 65536": many(13, (op, i) => op.set(["none", i], bytes(65_536))),
    "41 keys of 2000": many(41, (op, i) => op.set([...key(2000), i], 1)), "40 keys of 2000": many(40, (op, i) => op.set([...key(2000), i], 1)),
    "expireIn -1": () => kv.set(["a"], 1, { expireIn: -1 }), "expireIn 0.5": () => kv.set(["a"], 1, { expireIn: 0.5 }), "expireIn 2^53": () => kv.set(["a"], 1, { expireIn: 2 ** 53 - 1 }),
    "expireIn a day": () => kv.set(["a"], 1, { expireIn: 86_400_000 }), "after all": async () => (await listed({ prefix: ["none"] }))[0].length,
  };
  for (const [name, attempt] of Object.entries(attempts)) await say(`limit: ${name}`, attempt);
}

async function watches() {
  const first = async (...keys: any[]) => {
    const reader = kv.watch(keys).getReader();
    const { value, done } = await reader.read();
    await reader.cancel();
    return [value, done];
  };
  await kv.set(["w", "there"], 1);
  await say("watch, first state", () => first(["w", "there"], ["w", "absent"]));
  await say("watch of ten", () => first(...Array.from({ length: 10 }, (_, i) => ["w", i])));
  await say("watch of eleven", () => first(...Array.from({ length: 11 }, (_, i) => ["w", i])));
  await say("watch of an empty key", () => first([]));
  await say("watch of a long key", () => first([bytes(2048)]));
  await say("watch of changes", async () => {
    const reader = kv.watch([["w", "there"], ["w", "other"]]).getReader();
    const seen = [(await reader.read()).value];
    await kv.set(["w", "there"], 2);
    seen.push((await reader.read()).value);
    await kv.set(["w", "other"], "new");
    seen.push((await reader.read()).value);
    await kv.delete(["w", "there"]);
    seen.push((await reader.read()).value);
    await kv.atomic().set(["w", "there"], 3).delete(["w", "other"]).commit();
    seen.push((await reader.read()).value);
    await kv.atomic().sum(["w", "there", "not"], 1n).commit();
    await kv.set(["w", "there"], "last");
    seen.push((await reader.read()).value);
    await reader.cancel();
    return seen;
  });
  await say("two watches of one key", async () => {
    const readers = [1, 2].map(() => kv.watch([["w", "two"]]).getReader());
    for (const reader of readers) await reader.read();
    await kv.set(["w", "two"], 2);
    const seen = [];
    for (const reader of readers) seen.push((await reader.read()).value);
    for (const reader of readers) await reader.cancel();
    return seen;
  });
}

async function expiry() {
  await kv.set(["e", "soon"], 1, { expireIn: 300 });
  await kv.set(["e", "kept"], 1, { expireIn: 300 });
  await say("set without expiry keeps", () => kv.set(["e", "kept"], 2));
  await kv.set(["e", "summed"], u64(1n), { expireIn: 300 });
  await say("a sum keeps", () => kv.atomic().sum(["e", "summed"], 1n).commit());
  await say("an expiry comes", async () => {
    while ((await kv.get(["e", "soon"])).value !== null) await new Promise((resolve) => setTimeout(resolve, 20));
    return await kv.get(["e", "soon"]);
  });
  await say("what did not expire", () => listed({ prefix: ["e"] }));
}

async function closing() {
  const another: any = await Deno.openKv(Deno.args[0]);
  await say("another connection", async () => (await another.get(["hits"])).value);
  another.close();
  await say("get after close", () => another.get(["hits"]));
  await say("set after close", () => another.set(["hits"], 1));
  await say("close again", () => another.close());
}

const parts: Record<string, () => Promise<void>> = { values, keys, reads, mutations, sums, limits, watches, expiry, closing };
for (const name of Deno.args.slice(1)) await parts[name]();
kv.close();
