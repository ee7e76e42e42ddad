// Real Deno KV behind newline-delimited JSON: one command a line on stdin, one answer a line on stdout.
//
// A command is {"id", "op", ...}; its answer {"id", "ok": result} or {"id", "error": {"kind", "message"}}. Commands run
// concurrently; who needs an order waits for each answer. Keys and values travel in the notation of `decode` below, which
// tests/kv_oracle.py describes.

type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
// deno-lint-ignore no-explicit-any
type Any = any;

const hex = (bytes: Uint8Array) => bytes.toHex();
const unhex = (text: string) => Uint8Array.fromHex(text);
const VIEWS: Record<string, Any> = {
  Int8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array, Float32Array, Float64Array,
  BigInt64Array, BigUint64Array,
};
const ERRORS: Record<string, Any> = { Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError };

function decodeNumber(text: string): number {
  return text === "NaN" ? NaN : Number(text);
}

function lengthen(array: unknown[]) {
  array.length++;
}

function decode(json: Json, seen: unknown[] = []): Any {
  if (Array.isArray(json)) {
    // V8 writes an array by how it holds it, which depends on how it was made, and by which line of code that made others
    // before. This one starts as from a fresh literal, and grows by push.
    const array: unknown[] = JSON.parse("[]");
    seen.push(array);
    for (const item of json) {
      if ((item as Any)?.$ === "hole") lengthen(array);
      else array.push(decode(item, seen));
    }
    return array;
  }
  if (typeof json === "number" && (json | 0) === json) return json | 0;
  if (json === null || typeof json !== "object") return json;
  const v = json.v as Any;
  switch (json.$) {
    case "undefined": return undefined;
    case "number": return decodeNumber(v);
    case "bigint": return BigInt(v);
    case "u64": return new Deno.KvU64(BigInt(v));
    case "bytes": return unhex(v);
    case "buffer": return unhex(v).buffer;
    case "view": return new VIEWS[json.type as string](unhex(v).buffer);
    case "date": return new Date(decode(v) as number);
    case "regexp": return new RegExp(json.source as string, json.flags as string);
    case "boxed": return Object(decode(v));
    case "error": return Object.assign(new ERRORS[json.name as string](json.message), { stack: json.stack });
    case "symbol": return Symbol("odd");
    case "function": return () => {};
    case "versionstamp": return (Deno.Kv.prototype as Any).commitVersionstamp();
    case "ref": return seen[v];
    case "object": {
      // Deleting a property makes a dictionary: in objects of one shape V8 may hold, and so write, 0 as a double.
      const object: Any = { a: 0, b: 0 };
      delete object.a;
      delete object.b;
      seen.push(object);
      for (const [name, value] of v) {
        const enumerable = { value: decode(value, seen), enumerable: true, configurable: true, writable: true };
        Object.defineProperty(object, name, enumerable);
      }
      return object;
    }
    case "map": {
      const map = new Map();
      seen.push(map);
      for (const [key, value] of v) map.set(decode(key, seen), decode(value, seen));
      return map;
    }
    case "set": {
      const set = new Set();
      seen.push(set);
      for (const item of v) set.add(decode(item, seen));
      return set;
    }
  }
  throw new Error(`not in the notation: ${JSON.stringify(json)}`);
}

function encodeNumber(n: number): Json {
  if (Number.isSafeInteger(n) && !Object.is(n, -0)) return n;
  return { $: "number", v: Object.is(n, -0) ? "-0" : String(n) };
}

function encode(value: Any, seen: Map<unknown, number> = new Map()): Json {
  switch (typeof value) {
    case "undefined": return { $: "undefined" };
    case "boolean": case "string": return value;
    case "number": return encodeNumber(value);
    case "bigint": return { $: "bigint", v: String(value) };
    case "symbol": case "function": return { $: typeof value };
  }
  if (value === null) return null;
  if (value instanceof Deno.KvU64) return { $: "u64", v: String(value) };
  if (value instanceof Uint8Array) return { $: "bytes", v: hex(value) };
  if (value instanceof ArrayBuffer) return { $: "buffer", v: hex(new Uint8Array(value)) };
  if (ArrayBuffer.isView(value)) {
    const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
    return { $: "view", type: value.constructor.name, v: hex(bytes) };
  }
  if (value instanceof Date) return { $: "date", v: encodeNumber(value.getTime()) };
  if (value instanceof RegExp) return { $: "regexp", source: value.source, flags: value.flags };
  if (value instanceof Error) return { $: "error", name: value.name, message: value.message, stack: value.stack ?? null };
  if ([Number, String, Boolean, BigInt].some((type) => value instanceof type)) {
    return { $: "boxed", v: encode(value.valueOf()) };
  }
  const before = seen.get(value);
  if (before !== undefined) return { $: "ref", v: before };
  seen.set(value, seen.size);
  if (Array.isArray(value)) {
    return Array.from({ length: value.length }, (_, i) => i in value ? encode(value[i], seen) : { $: "hole" });
  }
  if (value instanceof Map) return { $: "map", v: [...value].map(([k, v]) => [encode(k, seen), encode(v, seen)]) };
  if (value instanceof Set) return { $: "set", v: [...value].map((item) => encode(item, seen)) };
  return { $: "object", v: Object.keys(value).map((name) => [name, encode(value[name], seen)]) };
}

const entry = (found: Any): Json => ({
  key: found.key.map((part: unknown) => encode(part)),
  value: encode(found.value),
  versionstamp: found.versionstamp,
});

const databases = new Map<string, Any>();
const watches = new Map<string, { reader: ReadableStreamDefaultReader<Any[]>; pending?: Promise<Any> }>();
const heard = new Map<string, { message: Json; at: number }[]>();

/** Options as they were sent: only names that are there, each value in the notation. */
function options(command: Any, names: string[]): Any {
  const found: Any = {};
  for (const name of names) {
    if (!(name in command)) continue;
    const raw = command[name];
    const keys = ["prefix", "start", "end"].includes(name);
    found[name] = keys ? key(raw) : decode(raw);
  }
  return found;
}

/** A key is a list of parts; what is not a list is sent on as it is. */
const key = (raw: Json): Any => Array.isArray(raw) ? raw.map((part) => decode(part)) : decode(raw);

const QUEUE = ["delay", "backoffSchedule", "keysIfUndelivered"];

function addTo(operation: Any, steps: Any[]) {
  for (const step of steps) {
    switch (step.do) {
      case "check": operation.check({ key: key(step.key), versionstamp: decode(step.versionstamp) }); break;
      case "set": operation.set(key(step.key), decode(step.value), options(step, ["expireIn"])); break;
      case "delete": operation.delete(key(step.key)); break;
      case "sum": case "min": case "max": operation[step.do](key(step.key), decode(step.value)); break;
      case "mutate": {
        const mutation: Any = { type: step.type, key: key(step.key), ...options(step, ["value", "expireIn"]) };
        operation.mutate(mutation);
        break;
      }
      case "enqueue": operation.enqueue(decode(step.value), options(step, QUEUE)); break;
      default: throw new Error(`no such step: ${step.do}`);
    }
  }
}

async function listed(kv: Any, command: Any): Promise<Json> {
  const selector = options(command, ["prefix", "start", "end"]);
  const iterator = kv.list(selector, options(command, ["limit", "reverse", "cursor", "batchSize", "consistency"]));
  const entries: Json[] = [];
  const take = command.take ?? Infinity;
  let done = false;
  while (entries.length < take) {
    const next = await iterator.next();
    done = !!next.done;
    if (done) break;
    entries.push(entry(next.value));
  }
  let cursor: Json;
  try {
    cursor = iterator.cursor;
  } catch (error) {
    cursor = { error: failure(error) };
  }
  return { entries, cursor, done };
}

function listen(kv: Any, command: Any) {
  const messages: { message: Json; at: number }[] = [];
  heard.set(command.name, messages);
  kv.listenQueue((message: unknown) => {
    messages.push({ message: encode(message), at: Date.now() });
    if (command.mode === "throw") throw new Error("as was asked for");
    if (command.mode === "hang") return new Promise(() => {});
    if (command.mode === "slow") return new Promise((resolve) => setTimeout(resolve, 200));
  }).catch((error: unknown) => messages.push({ message: { error: failure(error) }, at: Date.now() }));
}

async function hear(command: Any): Promise<Json> {
  const deadline = Date.now() + (command.timeout ?? 10_000);
  while (heard.get(command.name)!.length < command.count && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return heard.get(command.name)! as unknown as Json;
}

async function nextState(command: Any): Promise<Json> {
  const watch = watches.get(command.name)!;
  watch.pending ??= watch.reader.read(); // one that came too late is the next answer
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<"late">((resolve) => {
    timer = setTimeout(() => resolve("late"), command.timeout ?? 5000);
  });
  const first = await Promise.race([watch.pending, late]);
  clearTimeout(timer);
  if (first === "late") return { late: true };
  watch.pending = undefined;
  return first.done ? { done: true } : { entries: first.value.map(entry) };
}

async function run(command: Any): Promise<Json> {
  const name = command.db ?? "db";
  const kv = databases.get(name);
  switch (command.op) {
    case "open": databases.set(name, await Deno.openKv(command.path)); return null;
    case "close": kv.close(); return null;
    case "get": return entry(await kv.get(key(command.key), options(command, ["consistency"])));
    case "getMany": return (await kv.getMany(command.keys.map(key), options(command, ["consistency"]))).map(entry);
    case "set": return await kv.set(key(command.key), decode(command.value), options(command, ["expireIn"]));
    case "delete": await kv.delete(key(command.key)); return null;
    case "list": return await listed(kv, command);
    case "atomic": {
      const operation = kv.atomic();
      addTo(operation, command.steps);
      return await operation.commit();
    }
    case "enqueue": return await kv.enqueue(decode(command.value), options(command, QUEUE));
    case "listen": listen(kv, command); return null;
    case "heard": return await hear(command);
    case "watch": watches.set(command.name, { reader: kv.watch(command.keys.map(key)).getReader() }); return null;
    case "next": return await nextState(command);
    case "unwatch": await watches.get(command.name)!.reader.cancel(); return null;
    case "echo": return encode(decode(command.value));
  }
  throw new Error(`no such operation: ${command.op}`);
}

const failure = (error: Any): Json => ({
  kind: error?.constructor?.name ?? typeof error,
  message: String(error?.message ?? error),
});

const utf8 = new TextEncoder();

async function answer(line: string) {
  const command = JSON.parse(line);
  let reply: Json;
  try {
    reply = { id: command.id, ok: await run(command) ?? null };
  } catch (error) {
    reply = { id: command.id, error: failure(error) };
  }
  const bytes = utf8.encode(JSON.stringify(reply) + "\n");
  for (let sent = 0; sent < bytes.length;) sent += Deno.stdout.writeSync(bytes.subarray(sent));
}

// A watch or a listener that a test closed in the middle may reject later; the answers say all there is to know.
addEventListener("unhandledrejection", (event) => event.preventDefault());

let rest = "";
for await (const text of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
  const lines = (rest + text).split("\n");
  rest = lines.pop()!;
  for (const line of lines) answer(line);
}
Deno.exit();
