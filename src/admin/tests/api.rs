//! What is said: routes, methods, token, the client's side.

use super::*;

#[test]
fn every_route_answers_with_its_json() {
    let site = site(None, |_| {});
    for (path, pointer, expected) in [
        ("/readyz", "/ready", json!(true)),
        ("/api/v1/status", "/phase", json!("serving")),
        (
            "/api/v1/pools",
            "/pools/0/endpoints/0/address",
            json!("[::1]:1883"),
        ),
        (
            "/api/v1/pools",
            "/pools/0/endpoints/0/state",
            json!("half_open"),
        ),
        (
            "/api/v1/pools",
            "/pools/0/endpoints/0/seen_by/0/member",
            json!("lb-1"),
        ),
        ("/api/v1/pools/emqx", "/snapshot", json!(7)),
        (
            "/api/v1/pools/em%71x",
            "/policy",
            json!("least-connections"),
        ),
        ("/api/v1/members", "/members/0/self", json!(true)),
        ("/api/v1/listeners", "/listeners/0/accepted", json!(5)),
        (
            "/api/v1/listeners",
            "/listeners/0/bind",
            json!("0.0.0.0:1883"),
        ),
        ("/api/v1/config", "/admin/token_file", json!("[redacted]")),
    ] {
        let answer = site.ask("GET", path, "");
        assert_eq!(
            (answer.status, answer.json().pointer(pointer)),
            (200, Some(&expected)),
            "{path}"
        );
        assert_eq!(
            answer.header("content-type"),
            Some("application/json"),
            "{path}"
        );
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
    }
    let answer = site.ask("GET", "/healthz", "");
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
    let page = site.ask("GET", "/", "");
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, Some("text/html; charset=utf-8"))
    );
    assert!(
        page.header("content-security-policy")
            .unwrap()
            .contains("default-src 'none'")
    );
    assert!(
        !page.body.contains("http://") && !page.body.contains("https://"),
        "no foreign assets"
    );
    site.handle.stop();
}

#[test]
fn unready_is_503_with_the_same_details() {
    let site = site(None, |_| {});
    site.source.ready.store(false, Ordering::Relaxed);
    let answer = site.ask("GET", "/readyz", "");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["pools_without_endpoint"], json!(["emqx"]));
    assert_eq!(
        site.ask("GET", "/healthz", "").status,
        200,
        "alive is not ready"
    );
}

#[test]
fn metrics_come_in_the_format_that_was_asked_for() {
    let site = site(None, |_| {});
    let plain = site.ask("GET", "/metrics", "");
    assert_eq!(
        plain.header("content-type"),
        Some(crate::metrics::PLAIN_TEXT_TYPE)
    );
    assert!(
        plain
            .body
            .contains("# TYPE tidegate_connections_accepted_total counter\n")
    );
    assert!(!plain.body.contains("# EOF"));
    let accept = "Accept: application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.3\r\n";
    let open = site.ask("GET", "/metrics", accept);
    assert_eq!(
        open.header("content-type"),
        Some(crate::metrics::OPEN_METRICS_TYPE)
    );
    assert!(
        open.body
            .contains("# TYPE tidegate_connections_accepted counter\n")
    );
    assert!(open.body.ends_with("# EOF\n"));
    for text in [plain.body, open.body] {
        assert!(text.contains("\ntidegate_connections_accepted_total{listener=\"mqtt\"} 5\n"));
    }
}

#[test]
fn head_is_get_without_the_body() {
    let site = site(None, |_| {});
    for path in ["/", "/healthz", "/metrics", "/api/v1/pools"] {
        let answer = site.ask("HEAD", path, "");
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{path}");
        assert_ne!(answer.header("content-length"), Some("0"), "{path}");
    }
    assert_eq!(site.ask("HEAD", "/nothing", "").status, 404);
}

#[test]
fn unknown_paths_say_what_there_is() {
    let site = site(None, |_| {});
    for path in [
        "/api/v1/pool",
        "/api/v1/pools/",
        "/healthz/",
        "/api/v2/status",
        "//",
        "/../etc",
    ] {
        let answer = site.ask("GET", path, "");
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.json()["error"].is_string(), "{path}");
        assert!(
            !answer.json()["try"].as_array().unwrap().is_empty(),
            "{path}"
        );
    }
    let answer = site.ask("GET", "/api/v1/pools/emqy", "");
    assert_eq!(
        (answer.status, &answer.json()["try"]),
        (404, &json!(["emqx"]))
    );
}

#[test]
fn wrong_methods_are_told_the_right_one() {
    let site = site(None, |_| {});
    for (method, path, allow) in [
        ("POST", "/api/v1/pools", "GET, HEAD"),
        ("DELETE", "/", "GET, HEAD"),
        ("OPTIONS", "/metrics", "GET, HEAD"),
        ("POST", "/healthz", "GET, HEAD"),
        ("GET", "/api/v1/endpoints/127.0.0.1:1883/drain", "POST"),
        ("HEAD", "/api/v1/endpoints/127.0.0.1:1883/undrain", "POST"),
    ] {
        let answer = site.ask(method, path, "");
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some(allow)),
            "{method} {path}"
        );
    }
    assert!(site.source.drained.lock().unwrap().is_empty());
}

#[test]
fn token_guards_everything_but_the_two_probes() {
    let site = site(Some("s3cret"), |_| {});
    for path in [
        "/",
        "/metrics",
        "/api/v1/pools",
        "/api/v1/config",
        "/nothing",
        "/healthz/",
    ] {
        for headers in [
            "",
            "Authorization: Bearer wrong!\r\n",
            "Authorization: Basic s3cret\r\n",
        ] {
            let answer = site.ask("GET", path, headers);
            assert_eq!(answer.status, 401, "{path} {headers}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{path}");
        }
    }
    let drain = "/api/v1/endpoints/[::1]:1883/drain";
    assert_eq!(site.ask("POST", drain, "").status, 401);
    assert!(site.source.drained.lock().unwrap().is_empty());
    for path in ["/healthz", "/readyz"] {
        assert_eq!(site.ask("GET", path, "").status, 200, "{path}");
    }
    let token = "Authorization: Bearer s3cret\r\n";
    assert_eq!(site.ask("GET", "/api/v1/pools", token).status, 200);
    assert_eq!(site.ask("GET", "/nothing", token).status, 404);
    // A page of the same origin may write with the token.
    assert_eq!(
        site.ask("POST", drain, &format!("Origin: http://x\r\n{token}"))
            .status,
        200
    );
}

#[test]
fn drain_reaches_the_source_and_its_refusals_the_client() {
    let site = site(None, |_| {});
    let at = |rest: &str| format!("/api/v1/endpoints/{rest}");
    for (path, status) in [
        ("[::1]:1883/drain", 200),
        ("%5B::1%5D:1883/undrain?pool=emqx", 200),
        ("127.0.0.9:1883/drain", 404),
        ("[::1]:1883/drain?pool=other", 404),
        ("[::1]:1883/drain?pool=busy", 503),
        ("[::1]:1883/drain?pol=emqx", 400),
        ("broker:1883/drain", 400),
        ("[::1]/drain", 400),
    ] {
        let answer = site.ask("POST", &at(path), "");
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
    }
    let expected: Vec<Drained> = vec![
        (broker(), None, true),
        (broker(), Some("emqx".to_owned()), false),
    ];
    assert_eq!(*site.source.drained.lock().unwrap(), expected);
    let answer = site.ask(
        "POST",
        &at("[::1]:1883/drain"),
        "Origin: http://evil.example\r\n",
    );
    assert_eq!(answer.status, 403, "a web page drains nothing");
    assert_eq!(site.source.drained.lock().unwrap().len(), 2);
}

#[test]
fn client_talks_to_the_server() {
    let site = site(Some("s3cret"), |_| {});
    let url = format!("http://{}", site.addr);
    let client = Client::new(&url, Some(Secret::new("s3cret".into()))).unwrap();
    assert!(status_table(&client.status().unwrap()).contains("lb-1"));
    assert!(pools_table(&client.pools().unwrap()).contains("[::1]:1883  half_open  yes"));
    assert!(members_table(&client.members().unwrap()).contains("lb-1"));
    let line = drain_line(&client.drain(broker(), Some("emqx"), true).unwrap());
    assert_eq!(line, "[::1]:1883 drains in emqx\n");
    client.drain(broker(), None, false).unwrap();
    let expected = vec![
        (broker(), Some("emqx".into()), true),
        (broker(), None, false),
    ];
    assert_eq!(*site.source.drained.lock().unwrap(), expected);
    let error = client
        .drain(broker(), Some("other & more"), true)
        .unwrap_err();
    assert_eq!(error.to_string(), "no pool of this name; try emqx (404)");
    let error = Client::new(&url, None).unwrap().pools().unwrap_err();
    assert!(matches!(error, ClientError::Unauthorized(_)), "{error:?}");
    site.handle.stop();
    let error = client.pools().unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }), "{error:?}");
}

#[test]
fn client_says_when_what_answers_is_not_http() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = listener.local_addr().unwrap().to_string();
    let broker = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"\x20\x02\x00\x00").unwrap();
    });
    let error = Client::new(&url, None).unwrap().pools().unwrap_err();
    assert!(matches!(error, ClientError::Exchange { .. }), "{error:?}");
    broker.join().unwrap();
}
