#!/bin/sh
# Installs Debian's nginx with the Lua module, the yardstick of `make bench`. Does nothing where both are present.
set -eu
if command -v nginx >/dev/null && [ -e /usr/lib/nginx/modules/ngx_http_lua_module.so ]; then
    exit 0
fi
[ "$(id -u)" = 0 ] || { echo "bench/install.sh: run as root (apt-get install nginx libnginx-mod-http-lua)" >&2; exit 1; }
apt-get update
DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends nginx libnginx-mod-http-lua util-linux
# The package starts a web server on port 80; the benchmark starts its own.
if command -v systemctl >/dev/null && [ -d /run/systemd/system ]; then
    systemctl disable --now nginx
fi
