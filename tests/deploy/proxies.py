"""The shipped configurations of reverse proxies, running: only names, ports and folders are this machine's."""

import os
import pathlib
import ssl
import subprocess
from typing import Protocol

import httpx2

from tests.harness.deployment import DEPLOY
from tests.harness.programs import program
from tests.s3_servers.process import Process, free_port


class Proxy(Protocol):
    """A proxy before something that listens on a loopback port."""

    url: str
    client: httpx2.Client

    def stop(self) -> None:
        """End it."""


class Caddy:
    """The Caddyfile, for a site without TLS."""

    def __init__(self, folder: pathlib.Path, *, upstream: int, gateway: bool) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx2.Client(base_url=self.url, trust_env=False, timeout=60)
        self._process = Process(
            "caddy",
            [program("caddy"), "run", "--adapter", "caddyfile", "--config", str(DEPLOY / "Caddyfile")],
            log=folder / "caddy.log",
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(folder),
                "KLING_PUBLIC_URL": self.url,
                "KLING_DOOR": f"127.0.0.1:{upstream}",
                "KLING_LINKS": f"127.0.0.1:{upstream}",
                **({"KLING_GATEWAY": "on"} if gateway else {}),
            },
        )
        self._process.wait_until_port(port)

    def stop(self) -> None:
        self.client.close()
        self._process.stop()


_WRAPPER = """\
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/kling.conf;
}}
"""


class Nginx:
    """The server of `nginx/kling.conf`, with a certificate that it signs itself."""

    def __init__(self, folder: pathlib.Path, *, upstream: int, gateway: bool) -> None:
        port = free_port()
        self.url = f"https://127.0.0.1:{port}"
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.client = httpx2.Client(base_url=self.url, trust_env=False, timeout=60, verify=context)
        subprocess.run(
            [
                *(
                    "openssl",
                    "req",
                    "-x509",
                    "-newkey",
                    "ec",
                    "-pkeyopt",
                    "ec_paramgen_curve:P-256",
                    "-nodes",
                ),
                *("-days", "2", "-subj", "/CN=kling", "-keyout", f"{folder}/privkey.pem"),
                *("-out", f"{folder}/fullchain.pem"),
            ],
            check=True,
            capture_output=True,
        )
        (folder / "kling.d").mkdir()
        if gateway:
            (folder / "kling.d/gateway.conf").write_text((DEPLOY / "nginx/gateway.conf").read_text())
        (folder / "kling.conf").write_text(_on_this_machine(folder, port=port, upstream=upstream))
        user = "user root;" if os.geteuid() == 0 else ""
        (folder / "nginx.conf").write_text(_WRAPPER.format(folder=folder, user=user))
        command = [program("nginx"), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
        tested = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
        assert tested.returncode == 0, tested.stderr
        self._process = Process("nginx", command, log=folder / "nginx.log")
        self._process.wait_until_port(port)

    def stop(self) -> None:
        self.client.close()
        self._process.stop()


def _on_this_machine(folder: pathlib.Path, *, port: int, upstream: int) -> str:
    text = (DEPLOY / "nginx/kling.conf").read_text()
    here = {
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "    listen [::]:443 ssl;\n": "",
        "server 127.0.0.1:8080;": f"server 127.0.0.1:{upstream};",
        "/etc/letsencrypt/live/kling.example.com": str(folder),
        "/var/log/nginx": str(folder),
        "/etc/nginx/kling.d": f"{folder}/kling.d",
    }
    for written, replacement in here.items():
        assert written in text, written
        text = text.replace(written, replacement)
    return text
