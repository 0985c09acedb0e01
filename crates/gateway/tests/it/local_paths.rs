//! Paths the gateway answers itself.

use aiproxy_gateway::server::connection::Port;
use aiproxy_testkit::gateway::{ADMIN_TOKEN, get};
use aiproxy_testkit::{Step, TestGateway, Upstream};

use crate::CONFIG;

#[tokio::test(start_paused = true)]
async fn health_and_readiness_need_no_key_and_leave_no_record() {
    let gateway = TestGateway::new(CONFIG, &Upstream::new([]));
    for path in ["/health", "/ready"] {
        assert_eq!(gateway.call(&format!("GET {path} HTTP/1.1\r\nhost: g\r\n\r\n")).await.status, 200);
    }
    gateway.gateway().config_is_broken("aiproxy.yaml:1:1: error: x".into());
    let ready = gateway.call("GET /ready HTTP/1.1\r\nhost: g\r\n\r\n").await;
    assert_eq!((ready.status, ready.json()["config"].as_str()), (200, Some("last good")));
    gateway.gateway().drain();
    let ready = gateway.call("GET /ready HTTP/1.1\r\nhost: g\r\n\r\n").await;
    assert_eq!((ready.status, ready.json()["error"]["code"].as_str()), (503, Some("draining")));
    assert!(gateway.records().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_under_an_admin_path_answers_without_the_admin_credential() {
    let upstream = Upstream::new([]);
    let gateway = TestGateway::new(CONFIG, &upstream);
    for path in ["/stats", "/dashboard", "/metrics", "/admin", "/admin/api/v1/status", "/admin/api/v1/openapi.json"] {
        for key in ["", "pk-1", "admin", &ADMIN_TOKEN[1..]] {
            assert_eq!(gateway.call(&get(path, key)).await.status, 401, "{path} {key}");
        }
    }
    let status = gateway.call(&get("/admin/api/v1/status", ADMIN_TOKEN)).await;
    assert_eq!((status.status, status.json()["users"].as_u64()), (200, Some(1)));
    assert!(upstream.dials().is_empty());
}

#[tokio::test(start_paused = true)]
async fn only_exact_admin_names_are_kept_from_callers() {
    for path in ["/statsX", "/dashboard/x", "/administrator", "/metrics/"] {
        let upstream = Upstream::new([vec![Step::Request, Step::json(200, "{}")]]);
        let gateway = TestGateway::new(CONFIG, &upstream);
        assert_eq!(gateway.call(&get(path, "pk-1")).await.status, 200, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_separate_admin_port_keeps_callers_and_administrators_apart() {
    let gateway = TestGateway::new(CONFIG, &Upstream::new([]));
    let admin = get("/admin/api/v1/status", ADMIN_TOKEN);
    let on = |port| gateway.connect_from("127.0.0.1:1", port, false);
    assert_eq!(on(Port::Callers).call(&admin).await.status, 404);
    assert_eq!(on(Port::Admin).call(&admin).await.status, 200);
    assert_eq!(on(Port::Admin).call(&get("/v1/chat/completions", "pk-1")).await.status, 404);
}
