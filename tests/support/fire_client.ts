// Clients and watchers of a database that two servers serve; one line of JSON for each thing that is acknowledged or seen.
// Arguments: their names with commas between them (a watcher's begins with "w"), then the database's URL at each server.
//
// A client transfers between accounts, and logs each transfer under its own name and a number. It stays with its server as
// long as that is healthy, however long the storage behind it is away, and else goes over to the other. Of a transfer whose
// answer was lost it looks whether the log has it. Lines of stdin: "pause", "go".

const [names, ...places] = Deno.args;
const ACCOUNTS = 24, WATCHED = 9, PACE = 60, HEALTHY = 1000;

type Logged = { from: number; to: number; amount: number };

let going = true;
let wake = () => {};
let waiting = new Promise<void>((done) => wake = done);

const say = (line: unknown) => Deno.stdout.writeSync(new TextEncoder().encode(JSON.stringify(line) + "\n"));
const rest = (ms: number) => new Promise((done) => setTimeout(done, ms));

class Place {
  at: number;
  kv?: Deno.Kv;
  constructor(at: number) {
    this.at = at;
  }

  // What the work comes to, as long as the server is healthy meanwhile.
  async do<T>(work: (kv: Deno.Kv) => Promise<T>): Promise<T> {
    const done = this.opened().then(work);
    done.catch(() => {});
    for (;;) {
      let timer;
      const late = new Promise<"late">((late) => timer = setTimeout(() => late("late"), HEALTHY));
      const came = await Promise.race([done.then((value) => ({ value })), late]).finally(() => clearTimeout(timer));
      if (came !== "late") return came.value;
      if (!await this.healthy()) throw new Error("the server is gone");
    }
  }

  async opened() {
    return this.kv ??= await Deno.openKv(places[this.at]);
  }

  async healthy() {
    try {
      const url = new URL("/healthz", places[this.at]);
      const answer = await fetch(url, { signal: AbortSignal.timeout(HEALTHY) });
      await answer.body?.cancel();
      return answer.ok;
    } catch {
      return false;
    }
  }

  async failed(error: unknown, name: string) {
    if (!await this.healthy()) {
      try {
        this.kv?.close();
      } catch { /* what is under way there is given up */ }
      this.kv = undefined;
      this.at = (this.at + 1) % places.length;
      say({ client: name, over: this.at });
    } else {
      say({ client: name, refused: String(error) });
    }
    await rest(50);
  }
}

async function client(name: string, place: Place) {
  for (let number = 0;; number++) {
    if (!going) {
      say({ client: name, paused: true });
      await waiting;
    }
    await transfer(name, number, place);
    await rest(Math.random() * 2 * PACE);
  }
}

async function transfer(name: string, number: number, place: Place) {
  const from = Math.floor(Math.random() * ACCOUNTS);
  const to = (from + 1 + Math.floor(Math.random() * (ACCOUNTS - 1))) % ACCOUNTS;
  const amount = Math.floor(Math.random() * 10);
  const key = ["log", name, number];
  const began = Date.now();
  for (let sent = false;;) {
    try {
      const stamp = await place.do(async (kv) => {
        if (sent) {
          const { versionstamp } = await kv.get<Logged>(key);
          if (versionstamp) return versionstamp;
        }
        const [a, b] = await kv.getMany<number[]>([["account", from], ["account", to]]);
        sent = true;
        const done = await kv.atomic().check(a, b, { key, versionstamp: null })
          .set(a.key, a.value! - amount).set(b.key, b.value! + amount).set(key, { from, to, amount }).commit();
        return done.ok ? done.versionstamp : null;
      });
      if (stamp === null) continue;
      return say({ client: name, number, stamp, began, ended: Date.now() });
    } catch (error) {
      await place.failed(error, name);
    }
  }
}

async function watcher(name: string, place: Place) {
  const kv = await place.opened();
  const keys = [["round"], ...Array.from({ length: WATCHED }, (_, account) => ["account", account])];
  for await (const entries of kv.watch(keys)) {
    say({ watcher: name, stamps: entries.map(({ versionstamp }) => versionstamp) });
  }
}

for (const [at, name] of names.split(",").entries()) {
  const place = new Place(at % places.length);
  const work = name.startsWith("w") ? watcher(name, place) : client(name, place);
  work.catch((error) => {
    say({ client: name, ended: String(error) });
  });
}
for await (const text of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
  for (const line of text.trim().split("\n")) {
    going = line === "go";
    if (going) wake();
    else waiting = new Promise<void>((done) => wake = done);
  }
}
Deno.exit();
