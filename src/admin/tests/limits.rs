//! What hostile, slow and too many clients meet.

use super::*;

#[test]
fn bodies_are_read_up_to_their_limit() {
    let site = site(None, |_| {});
    let head =
        "POST /api/v1/endpoints/[::1]:1883/drain HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    let small = format!("{head}Content-Length: 4\r\n\r\nbody");
    assert_eq!(site.send(small.as_bytes()).status, 200);
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n");
    assert_eq!(site.send(chunked.as_bytes()).status, 200);
    // The server may answer and close before all was sent: neither end is judged on the rest.
    let mut stream = site.connect();
    let large = format!("{head}Content-Length: 65537\r\n\r\n");
    stream.write_all(large.as_bytes()).unwrap();
    stream.write_all(&vec![b'x'; 65_537]).unwrap();
    assert_eq!(read_answer(&mut stream).status, 413);
    assert_eq!(site.source.drained.lock().unwrap().len(), 2);
}

#[test]
fn heads_that_are_too_large_are_refused() {
    let site = site(None, |limits| {
        limits.header_bytes_max = 8 * 1024;
    });
    let mut stream = site.connect();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: ")
        .unwrap();
    stream.write_all(&[b'x'; 9 * 1024]).unwrap();
    stream.write_all(b"\r\n\r\n").unwrap();
    let answer = read_answer(&mut stream);
    assert_eq!(answer.status, 431);
    assert_eq!(site.ask("GET", "/healthz", "").status, 200);
}

#[test]
fn bytes_that_are_no_http_close_the_connection() {
    let site = site(None, |_| {});
    let mut stream = site.connect();
    stream
        .write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.is_empty() || text.contains(" 400 "), "{text}");
}

#[test]
fn slow_and_silent_requests_are_cut() {
    let site = site(None, |limits| {
        limits.request_timeout = Duration::from_millis(300);
    });
    // A second request on a connection whose first one was well has no more time than a first one.
    let mut second = site.connect();
    assert_eq!(keep_alive(&mut second).status, 200);
    second.write_all(b"GET /hea").unwrap();
    let drain = "POST /api/v1/endpoints/[::1]:1883/drain HTTP/1.1\r\nHost: x\r\n";
    let half_body = format!("{drain}Content-Length: 9\r\n\r\nhalf");
    let begun = ["", "GET /hea", "GET /healthz HTTP/1.1\r\nHost:", &half_body];
    let mut streams = begun.map(|begun| {
        let mut stream = site.connect();
        stream.write_all(begun.as_bytes()).unwrap();
        (begun, stream)
    });
    assert!(is_closed(&mut second));
    for (begun, stream) in &mut streams {
        assert!(is_closed(stream), "{begun}");
    }
    assert!(site.source.drained.lock().unwrap().is_empty());
}

#[test]
fn idle_connections_outlive_the_request_timeout() {
    let site = site(None, |limits| {
        limits.request_timeout = Duration::from_millis(300);
    });
    let mut idle = site.connect();
    assert_eq!(keep_alive(&mut idle).status, 200);
    // Connected after the answer and cut for its silence: so the time to read a request has passed since.
    assert!(is_closed(&mut site.connect()));
    assert_eq!(keep_alive(&mut idle).status, 200);
}

#[test]
fn idle_connections_end_after_their_own_timeout() {
    let site = site(None, |limits| {
        limits.idle_timeout = Duration::from_millis(20);
    });
    let mut idle = site.connect();
    assert_eq!(keep_alive(&mut idle).status, 200);
    assert!(is_closed(&mut idle));
}

#[test]
fn client_that_reads_no_answer_is_cut() {
    let site = site(None, |limits| {
        limits.connections = 1;
        limits.idle_timeout = Duration::from_millis(300);
        limits.request_timeout = Duration::from_millis(300);
    });
    let mut stuck = site.connect();
    stuck.set_write_timeout(Some(NEVER)).unwrap();
    // Asks until the answers fill both ends' buffers; then the write fails because the server has cut.
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    while stuck.write_all(&request).is_ok() {}
    assert_eq!(
        site.ask("GET", "/healthz", "").status,
        200,
        "the place is free again"
    );
}

#[test]
fn connection_over_the_limit_takes_the_place_of_idle_ones() {
    let site = site(None, |limits| {
        limits.connections = 2;
    });
    let mut idle = [site.connect(), site.connect()];
    for stream in &mut idle {
        assert_eq!(keep_alive(stream).status, 200);
    }
    assert_eq!(site.ask("GET", "/readyz", "").status, 200);
    for stream in &mut idle {
        assert!(is_closed(stream));
    }
}

#[test]
fn connection_over_the_limit_waits_for_busy_ones() {
    let site = site(None, |limits| {
        limits.connections = 1;
        limits.request_timeout = Duration::from_millis(300);
    });
    let mut busy = site.connect();
    busy.write_all(b"GET /hea").unwrap();
    assert_eq!(
        site.ask("GET", "/healthz", "").status,
        200,
        "served once the busy one is cut"
    );
    assert!(is_closed(&mut busy));
}

#[test]
fn stop_closes_idle_connections_and_frees_the_port() {
    let site = site(None, |_| {});
    let mut idle = site.connect();
    assert_eq!(keep_alive(&mut idle).status, 200);
    let settings = Settings {
        bind: site.addr,
        token: None,
    };
    assert!(bind(&settings).is_err(), "a taken port is an error of bind");
    site.handle.stop();
    assert!(is_closed(&mut idle));
    bind(&settings).unwrap();
}
