"""A guard before a server on loopback: it lets in what comes from the server's own pages, or from programs.

Prefect has no setting for the hosts that it answers to. MLflow has, but takes pages of any other server on this machine
for its own, and asks for no password without a database of users. Starlette's middleware for hosts does not look at
ports, nor at origins.
"""

from __future__ import annotations

import base64
import hmac

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.servers.access import LOGIN, USER, own_hosts, own_origins

# Takes the secret from behind the `#` of the link, out of the history, and to where each server's pages look for it:
# Prefect's in the browser's storage, MLflow's among the passwords that the browser keeps while it runs.
PAGE = """<!doctype html><meta charset="utf-8"><title>headstart</title><link rel="icon" href="data:,"><script>
const [secret, ...begin] = location.hash.slice(1).split("/");
history.replaceState(null, "", location.pathname);
const enter = () => location.replace("/");
%s
</script>"""
PREFECT_LOGIN = PAGE % f'localStorage.setItem("prefect-password", btoa("{USER}:" + secret)); enter();'
# MLflow begins with its pages for language models and with an assistant, until somebody has chosen otherwise.
MLFLOW_LOGIN = (
    PAGE
    % f"""const chosen = {{"mlflow.workflowType_v1": '"machine_learning"', "mlflow.assistant.panelOpen_v1": "false",
  "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true"}};
for (const [key, value] of Object.entries(chosen)) localStorage.getItem(key) ?? localStorage.setItem(key, value);
const request = new XMLHttpRequest();
request.open("GET", "/version", true, "{USER}", secret);
request.onloadend = () => location.replace("/#/" + (begin.join("/") || "experiments"));
request.send();"""
)

# Pages may talk to their own server only, and stand in no other page: Prefect's newer page asks Amplitude for a
# configuration whatever the settings say.
POLICY = (b"content-security-policy", b"connect-src 'self' data: blob:; form-action 'self'; frame-ancestors 'self'")


class Guard:
    """ASGI middleware. Requests and websockets are refused (403) where

    - ``Host`` is not an address of the server itself: a foreign name that was made to point to this machine;
    - ``Origin`` is another than the server's own, or a browser tells that another site's page asks; but links to the
      server may be followed from anywhere;

    and, given `credentials` (user:password), where they do not hold them (401). ``/health`` tells nothing and may be
    asked without. `login` is the page that takes the secret to the browser.
    """

    def __init__(self, app: ASGIApp, login: str, credentials: str | None = None) -> None:
        self.app, self.login = app, login
        encoded = base64.b64encode(credentials.encode()).decode() if credentials else None
        self.expected = f"Basic {encoded}" if encoded else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = None if scope["type"] == "lifespan" else self._answer(scope)
        if answer is None:
            await self.app(scope, receive, _with_policy(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await answer(scope, receive, _with_policy(send))

    def _answer(self, scope: Scope) -> Response | None:
        headers, port = Headers(scope=scope), scope["server"][1]
        if reason := _foreign(headers, port, scope.get("method")):
            return PlainTextResponse(f"{reason}: this server answers its own pages and this machine's programs\n", 403)
        if scope["path"] == LOGIN and scope.get("method") == "GET":
            return HTMLResponse(self.login, headers={"Cache-Control": "no-store"})
        if self.expected and scope["path"] != "/health" and not self._knows(headers):
            challenge = {"WWW-Authenticate": 'Basic realm="headstart", charset="UTF-8"'}
            return PlainTextResponse("`headstart ui` tells user and password\n", 401, challenge)
        return None

    def _knows(self, headers: Headers) -> bool:
        given = headers.get("authorization", "")
        return self.expected is not None and hmac.compare_digest(given.encode(), self.expected.encode())


def _with_policy(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), POLICY]
        await send(message)

    return sending


def _foreign(headers: Headers, port: int, method: str | None) -> str | None:
    """What tells that a request is not from here."""
    hosts, origins = headers.getlist("host"), headers.getlist("origin")
    if len(hosts) != 1 or hosts[0].lower() not in own_hosts(port):
        return f"Host is not {' or '.join(own_hosts(port))}"
    if not set(origins) <= set(own_origins(port)):
        return "Origin is another site"
    link = (method, headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("GET", "navigate", "document")
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not link:
        return "another site asks"
    return None
