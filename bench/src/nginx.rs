//! The yardstick: Debian's nginx with a Lua access script that swaps keys, and a buffered access log.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::payload;
use crate::process::{Proxy, TempDir, free_address};
use crate::subject::Backend;
use crate::tls::SERVER_NAME;

const MODULES: &str = "/usr/lib/nginx/modules";

/// Looks the key up in a plain Lua table, which is faster than a shared dictionary and enough for one worker.
const GATEWAY_LUA: &str = r#"local M = {}
local users, channels = {}, {}

function M.load(path, real_key)
  for line in io.lines(path) do
    local key, user, channel = line:match("^(%S+) (%S+) (%S+)$")
    users[key] = { name = user, channel = channel }
  end
  channels.upstream = { authorization = "Bearer " .. real_key }
end

local function refuse(message)
  ngx.status = 401
  ngx.header.content_type = "application/json"
  ngx.say('{"error":{"message":"', message, '","type":"invalid_request_error"}}')
  return ngx.exit(401)
end

function M.access()
  local var = ngx.var
  local header = var.http_authorization
  if not header then return refuse("Missing Authorization header") end
  if header:sub(1, 7) ~= "Bearer " then return refuse("Invalid proxy key") end
  local user = users[header:sub(8)]
  if not user then return refuse("Invalid proxy key") end
  var.user = user.name
  var.channel = user.channel
  var.authorization = channels[user.channel].authorization
end

return M
"#;

pub(crate) async fn start(backend: &Backend<'_>, core: usize) -> Result<Proxy> {
    ensure!(
        Path::new(MODULES).join("ngx_http_lua_module.so").exists(),
        "nginx with its Lua module is missing: run bench/install.sh"
    );
    let directory = TempDir::create()?;
    let address = free_address()?;
    let path = directory.path();
    fs::write(path.join("gateway.lua"), GATEWAY_LUA)?;
    fs::write(path.join("keys.txt"), keys())?;
    fs::write(path.join("nginx.conf"), config(backend, address, path))?;
    let path = path.display().to_string();
    let command = ["nginx", "-p", &path, "-c", "nginx.conf", "-e", "error.log"].map(str::to_owned);
    Proxy::start(&command, core, address, directory).await.context("nginx")
}

fn keys() -> String {
    (0..payload::USERS).fold(String::new(), |mut text, user| {
        writeln!(text, "{} {} upstream", payload::proxy_key(user), payload::user_id(user)).ok();
        text
    })
}

fn config(backend: &Backend<'_>, listen: SocketAddr, directory: &Path) -> String {
    let directory = directory.display();
    let upstream = backend.upstream;
    let real_key = payload::REAL_KEY;
    let (scheme, tls) = match backend.ca_file {
        Some(ca_file) => (
            "https",
            format!(
                "proxy_ssl_verify on; proxy_ssl_trusted_certificate {}; proxy_ssl_session_reuse on;
            proxy_ssl_server_name on; proxy_ssl_name {SERVER_NAME}; proxy_ssl_protocols TLSv1.2 TLSv1.3;",
                ca_file.display()
            ),
        ),
        None => ("http", String::new()),
    };
    let buffering = if backend.streaming { "off" } else { "on" };
    // A socket has no end that nginx knows: the handshake goes through, and silence ends nothing while it is measured.
    let (upgrade, connection, silence) =
        if backend.sockets > 0 { ("$http_upgrade", "upgrade", "600s") } else { ("\"\"", "", "60s") };
    // Two connections for each socket, beside what is enough for all else; it drops new ones when a sixteenth is left.
    let connections = (2 * backend.sockets * 9 / 8 + 1_024).max(12_000);
    let descriptors = (2 * backend.sockets + 384).max(16_384);
    format!(
        r#"daemon off;
user root;
pid nginx.pid;
worker_processes 1;
worker_rlimit_nofile {descriptors};
load_module {MODULES}/ndk_http_module.so;
load_module {MODULES}/ngx_http_lua_module.so;
error_log error.log warn;
events {{ worker_connections {connections}; }}
http {{
    lua_package_path "{directory}/?.lua;;";
    init_by_lua_block {{ require("gateway").load("{directory}/keys.txt", "{real_key}") }}
    log_format record escape=json '{{"time":"$time_iso8601","id":"$request_id","user":"$user","channel":"$channel",'
        '"ip":"$remote_addr","method":"$request_method","path":"$uri","status":$status,"bytes_in":$request_length,'
        '"bytes_out":$body_bytes_sent,"duration":$request_time,"upstream":"$upstream_addr",'
        '"upstream_status":"$upstream_status","first_byte":"$upstream_header_time",'
        '"upstream_duration":"$upstream_response_time","user_agent":"$http_user_agent"}}';
    access_log records.jsonl record buffer=64k flush=1s;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    tcp_nodelay on;
    keepalive_requests 10000000;
    keepalive_timeout 75s;
    client_body_buffer_size 256k;
    client_max_body_size 16m;
    upstream upstream {{
        server {upstream} max_fails=0;
        keepalive 512; keepalive_requests 10000000; keepalive_timeout 60s;
    }}
    server {{
        listen {listen} backlog=4096;
        location = /health {{ access_log off; return 200 "ok\n"; }}
        location / {{
            set $user ""; set $channel ""; set $authorization "";
            access_by_lua_block {{ require("gateway").access() }}
            proxy_pass {scheme}://$channel;
            proxy_http_version 1.1;
            proxy_set_header Connection "{connection}";
            proxy_set_header Upgrade {upgrade};
            proxy_set_header Host {SERVER_NAME};
            proxy_set_header Authorization $authorization;
            proxy_buffering {buffering};
            proxy_read_timeout {silence};
            {tls}
        }}
    }}
}}
"#
    )
}
