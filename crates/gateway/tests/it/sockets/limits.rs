//! A socket is a call as long as it is open: it takes a place, and gives it back once.

use aiproxy_testkit::gateway::get;
use aiproxy_testkit::{Step, TestGateway, Upstream};

use super::*;

const LIMITED: &str = "
users:
  one: {proxy_keys: [{id: first, key: pk-1 KEY}], groups: [team] USER}
groups: {team: {channels: [up] GROUP}}
channels:
  up: {kind: openai, base_url: 'http://up.test', health: false, credentials: [{id: a, api_key: real-a CREDENTIAL}] CHANNEL}
";

fn limited(scope: &str) -> String {
    let mut config = LIMITED.to_owned();
    for place in ["KEY", "USER", "GROUP", "CREDENTIAL", "CHANNEL"] {
        config = config.replace(&format!(" {place}"), if place == scope { ", limits: {concurrent: 2}" } else { "" });
    }
    config
}

#[tokio::test(start_paused = true)]
async fn open_sockets_count_as_calls_that_run() {
    for scope in ["KEY", "USER", "GROUP", "CREDENTIAL", "CHANNEL"] {
        let echo = vec![Step::Upgrade, Step::Echo];
        let plain = vec![Step::Request, Step::json(200, "{}"), Step::Again];
        let upstream = Upstream::new([echo.clone(), echo.clone(), echo, plain]);
        let gateway = TestGateway::new(&limited(scope), &upstream);
        let first = open(&gateway, REALTIME).await;
        let second = open(&gateway, REALTIME).await;
        assert_eq!((gateway.gateway().open_sockets(), gateway.gateway().calls_in_flight()), (2, 2));
        let reply = refused(gateway.socket(REALTIME, &[KEY]).await);
        assert_eq!(
            (reply.status, reply.json()["error"]["code"].as_str()),
            (429, Some("too_many_concurrent")),
            "{scope}"
        );
        assert_eq!(gateway.call(&get("/v1/x", "pk-1")).await.status, 429, "{scope}: sockets and calls count together");
        first.leave().await;
        settle().await;
        let third = open(&gateway, REALTIME).await;
        assert_eq!(refused(gateway.socket(REALTIME, &[KEY]).await).status, 429, "{scope}: one place was given back");
        for socket in [second, third] {
            socket.leave().await;
        }
        settle().await;
        assert_eq!(gateway.call(&get("/v1/x", "pk-1")).await.status, 200, "{scope}");
        settle().await;
        nothing_is_left(&gateway);
        assert_eq!(gateway.gateway().sockets_opened(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_fails_gives_its_place_back() {
    for script in
        [vec![Step::Refuse], vec![Step::Request, Step::json(403, "{}")], vec![Step::Request, Step::json(200, "{}")]]
    {
        let upstream = Upstream::new([vec![script; 6], vec![vec![Step::Upgrade, Step::Echo]; 2]].concat());
        let gateway = TestGateway::new(&limited("CHANNEL"), &upstream);
        for _ in 0..6 {
            assert!([403, 502].contains(&refused(gateway.socket(REALTIME, &[KEY]).await).status));
        }
        let sockets = [open(&gateway, REALTIME).await, open(&gateway, REALTIME).await];
        for socket in sockets {
            socket.leave().await;
        }
        settle().await;
        nothing_is_left(&gateway);
    }
}
