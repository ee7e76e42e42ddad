"""Apps of the usual stacks, each of which counts its requests in its branch's database: their files by their paths."""

from __future__ import annotations

# Deno KV in the documentation of Deno Deploy, "Example". A new database has no count yet, so its first answer is null + 1.
DENO = {
    "main.ts": """\
const kv = await Deno.openKv();

Deno.serve(async () => {
  const res = await kv.get<number>(["requests"]);
  const requests = res.value + 1;
  await kv.set(["requests"], requests);
  return new Response(JSON.stringify(requests));
});
"""
}

# Fastify on PostgreSQL, with a WebSocket and server-sent events.
NODE = {
    "package.json": """\
{
  "name": "counter",
  "private": true,
  "type": "module",
  "scripts": { "start": "node server.js" },
  "dependencies": { "fastify": "^5", "pg": "^8", "ws": "^8" }
}
""",
    ".gitignore": "node_modules\n",
    "server.js": """\
import Fastify from "fastify";
import pg from "pg";
import { WebSocketServer } from "ws";

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 2 });
await pool.query("create table if not exists counter (requests int)");
const app = Fastify();

app.get("/", async () => {
  await pool.query("insert into counter values (1)");
  return (await pool.query("select count(*)::int as count from counter")).rows[0].count;
});
app.get("/page", (_, reply) => reply.type("text/html").send("<!doctype html><title>counter</title>"));
app.get("/events", (_, reply) => {
  reply.raw.writeHead(200, { "content-type": "text/event-stream" });
  let number = 0;
  const timer = setInterval(() => reply.raw.write(`data: ${++number}\\n\\n`), 50);
  reply.raw.on("close", () => clearInterval(timer));
});
const sockets = new WebSocketServer({ server: app.server, path: "/socket" });
sockets.on("connection", (socket) => socket.on("message", (text) => socket.send(`echo ${text}`)));
await app.listen({ port: Number(process.env.PORT), host: process.env.HOST });
""",
}

# Django with a migration, served by granian.
DJANGO = {
    "manage.py": """\
import os, sys
from django.core.management import execute_from_command_line

os.environ["DJANGO_SETTINGS_MODULE"] = "web.settings"
execute_from_command_line(sys.argv)
""",
    "web/__init__.py": "",
    "web/settings.py": """\
import os

SECRET_KEY = "a key"
ALLOWED_HOSTS = [".localhost"]
INSTALLED_APPS = ["counter"]
ROOT_URLCONF = "web.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        **{name: os.environ.get(f"PG{variable}", "") for name, variable in (
            ("NAME", "DATABASE"), ("USER", "USER"), ("PASSWORD", "PASSWORD"), ("HOST", "HOST"), ("PORT", "PORT")
        )},
    }
}
""",
    "web/urls.py": """\
from counter.models import Request
from django.http import HttpResponse
from django.urls import path


def count(request):
    Request.objects.create()
    return HttpResponse(str(Request.objects.count()))


urlpatterns = [path("", count)]
""",
    "web/wsgi.py": """\
import os
from django.core.wsgi import get_wsgi_application

os.environ["DJANGO_SETTINGS_MODULE"] = "web.settings"
application = get_wsgi_application()
""",
    "counter/__init__.py": "",
    "counter/models.py": """\
from django.db import models


class Request(models.Model):
    at = models.DateTimeField(auto_now_add=True)
""",
    "counter/migrations/__init__.py": "",
    "counter/migrations/0001_initial.py": """\
from django.db import migrations, models


class Migration(migrations.Migration):
    operations = [
        migrations.CreateModel(
            "Request", [("id", models.BigAutoField(primary_key=True)), ("at", models.DateTimeField(auto_now_add=True))]
        )
    ]
""",
}
