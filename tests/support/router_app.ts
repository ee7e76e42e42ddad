// An app behind the router: `deno run --allow-net --allow-env router_app.ts`, with the port in PORT.
let release: (() => void) | null = null;
let left = 0;

async function count(body: ReadableStream<Uint8Array> | null): Promise<number> {
  let bytes = 0;
  if (body) for await (const piece of body) bytes += piece.length;
  return bytes;
}

function download(megabytes: number): Response {
  const piece = new Uint8Array(1 << 20).fill(120);
  let sent = 0;
  return new Response(
    new ReadableStream({
      pull(controller) {
        if (sent++ < megabytes) controller.enqueue(piece);
        else controller.close();
      },
    }),
    { headers: { "content-length": String(megabytes << 20) } },
  );
}

function events(): Response {
  const encoder = new TextEncoder();
  return new Response(
    new ReadableStream({
      async start(controller) {
        controller.enqueue(encoder.encode("data: first\n\n"));
        await new Promise<void>((resolve) => release = resolve);
        controller.enqueue(encoder.encode("data: second\n\n"));
        controller.close();
      },
      cancel() {
        left++;
      },
    }),
    { headers: { "content-type": "text/event-stream" } },
  );
}

function socket(request: Request): Response {
  const { socket, response } = Deno.upgradeWebSocket(request);
  socket.onmessage = (event) => socket.send(`echo ${event.data}`);
  return response;
}

async function said(request: Request): Promise<Response> {
  const headers = [...request.headers];
  const body = await request.text();
  return Response.json({ method: request.method, url: request.url, headers, body, name: Deno.env.get("NAME") });
}

function cookies(url: URL): Response {
  const headers = new Headers();
  for (const each of url.searchParams.getAll("set")) headers.append("set-cookie", each);
  return new Response("", { headers });
}

Deno.serve({ hostname: "127.0.0.1", port: Number(Deno.env.get("PORT")), onListen() {} }, async (request) => {
  const url = new URL(request.url);
  switch (url.pathname) {
    case "/upload":
      return new Response(String(await count(request.body)));
    case "/echo":
      return new Response(request.body);
    case "/download":
      return download(Number(url.searchParams.get("megabytes")));
    case "/events":
      return events();
    case "/release":
      release?.();
      return new Response("released");
    case "/left":
      return new Response(String(left));
    case "/socket":
      return socket(request);
    case "/cookies":
      return cookies(url);
    case "/broken":
      return new Response(
        new ReadableStream({
          start(controller) {
            controller.error(new Error("broken"));
          },
        }),
      );
    default:
      return await said(request);
  }
});
