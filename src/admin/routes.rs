//! From a request's head to its answer. No sockets and nothing to wait for, so every route is a plain function call.

use super::guard;
use super::source::{DrainError, Source};
use crate::logic::endpoint::EndpointId;
use crate::logic::secret::Secret;
use crate::metrics;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Response, StatusCode};
use serde_json::json;
use std::borrow::Cow;

/// An answer, complete.
pub(super) type Reply = Response<Full<Bytes>>;

/// What a person can try after a wrong path.
const PATHS: [&str; 11] = [
    "/healthz",
    "/readyz",
    "/metrics",
    "/api/v1/status",
    "/api/v1/pools",
    "/api/v1/pools/NAME",
    "/api/v1/members",
    "/api/v1/listeners",
    "/api/v1/config",
    "POST /api/v1/endpoints/ADDRESS/drain?pool=NAME",
    "POST /api/v1/endpoints/ADDRESS/undrain?pool=NAME",
];

/// The page at `/`. It runs its own script and asks this server, and nothing else.
const PAGE: &str = include_str!("page.html");
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                           connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
enum Route<'p> {
    Page,
    Health,
    Ready,
    Metrics,
    Status,
    Pools,
    Pool(Cow<'p, str>),
    Members,
    Listeners,
    Config,
    Drain { address: Cow<'p, str>, on: bool },
}

impl<'p> Route<'p> {
    fn parse(path: &'p str) -> Option<Self> {
        let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        Some(match segments.as_slice() {
            [""] => Self::Page,
            ["healthz"] => Self::Health,
            ["readyz"] => Self::Ready,
            ["metrics"] => Self::Metrics,
            ["api", "v1", "status"] => Self::Status,
            ["api", "v1", "pools"] => Self::Pools,
            ["api", "v1", "pools", name] => Self::Pool(decoded(name)?),
            ["api", "v1", "members"] => Self::Members,
            ["api", "v1", "listeners"] => Self::Listeners,
            ["api", "v1", "config"] => Self::Config,
            ["api", "v1", "endpoints", address, "drain"] => Self::Drain {
                address: decoded(address)?,
                on: true,
            },
            ["api", "v1", "endpoints", address, "undrain"] => Self::Drain {
                address: decoded(address)?,
                on: false,
            },
            _ => return None,
        })
    }

    /// Routes that a load balancer or an orchestrator asks, without a token.
    const fn is_open(&self) -> bool {
        matches!(self, Self::Health | Self::Ready)
    }

    const fn is_write(&self) -> bool {
        matches!(self, Self::Drain { .. })
    }
}

/// Answers one request.
pub(super) fn respond(source: &dyn Source, token: Option<&Secret>, request: &Parts) -> Reply {
    let route = Route::parse(request.uri.path());
    let is_open = route.as_ref().is_some_and(Route::is_open);
    // Before anything else is said: without the token not even which paths exist.
    if !is_open && !guard::authorized(token, &request.headers) {
        let mut reply = failure(StatusCode::UNAUTHORIZED, "a bearer token is needed", &[]);
        set(&mut reply, header::WWW_AUTHENTICATE, "Bearer");
        return reply;
    }
    let Some(route) = route else {
        return failure(StatusCode::NOT_FOUND, "no such path", &PATHS);
    };
    let (fits, allow) = if route.is_write() {
        (request.method == Method::POST, "POST")
    } else {
        (
            matches!(request.method, Method::GET | Method::HEAD),
            "GET, HEAD",
        )
    };
    if !fits {
        let mut reply = failure(StatusCode::METHOD_NOT_ALLOWED, "wrong method", &[allow]);
        set(&mut reply, header::ALLOW, allow);
        return reply;
    }
    match route {
        Route::Page => page(),
        Route::Health => text(StatusCode::OK, "text/plain; charset=utf-8", "ok\n".into()),
        Route::Ready => {
            let ready = source.ready();
            let status = if ready.ready {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            };
            json(status, &ready)
        }
        Route::Metrics => scrape(source, &request.headers),
        Route::Status => json(StatusCode::OK, &source.status()),
        Route::Pools => json(StatusCode::OK, &json!({ "pools": source.pools() })),
        Route::Pool(name) => pool(source, &name),
        Route::Members => json(StatusCode::OK, &json!({ "members": source.members() })),
        Route::Listeners => json(StatusCode::OK, &json!({ "listeners": source.listeners() })),
        Route::Config => json(StatusCode::OK, &source.config()),
        Route::Drain { address, on } => drain(source, token, request, &address, on),
    }
}

/// An answer for a body that could not be read.
pub(super) fn unreadable(too_large: bool) -> Reply {
    if too_large {
        failure(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large", &[])
    } else {
        failure(StatusCode::BAD_REQUEST, "the body broke off", &[])
    }
}

fn pool(source: &dyn Source, name: &str) -> Reply {
    let pools = source.pools();
    if let Some(pool) = pools.iter().find(|pool| pool.name == name) {
        return json(StatusCode::OK, pool);
    }
    let known: Vec<&str> = pools.iter().map(|pool| pool.name.as_str()).collect();
    failure(StatusCode::NOT_FOUND, "no pool of this name", &known)
}

/// `OpenMetrics` for who asks for it (Prometheus does), the older text format for everyone else.
fn scrape(source: &dyn Source, headers: &HeaderMap) -> Reply {
    let mut accepts = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let open = accepts.any(|value| value.contains("application/openmetrics-text"));
    let scrape = source.metrics();
    let mut reply = if open {
        text(StatusCode::OK, metrics::OPEN_METRICS_TYPE, scrape)
    } else {
        text(
            StatusCode::OK,
            metrics::PLAIN_TEXT_TYPE,
            metrics::plain_text(&scrape),
        )
    };
    set(&mut reply, header::VARY, "accept");
    reply
}

fn drain(
    source: &dyn Source,
    token: Option<&Secret>,
    request: &Parts,
    address: &str,
    on: bool,
) -> Reply {
    if guard::foreign_write(token, &request.headers) {
        let error = "web pages may not write here unless a token is configured";
        return failure(StatusCode::FORBIDDEN, error, &[]);
    }
    let Ok(endpoint) = address.parse().map(EndpointId) else {
        let hints = ["127.0.0.1:1883", "[::1]:1883"];
        return failure(
            StatusCode::BAD_REQUEST,
            "the endpoint is no address with port",
            &hints,
        );
    };
    let Ok(pool) = pool_of_query(request.uri.query().unwrap_or("")) else {
        let error = "the query is not pool=NAME";
        return failure(StatusCode::BAD_REQUEST, error, &["?pool=NAME"]);
    };
    match source.drain(endpoint, pool.as_deref(), on) {
        Ok(pools) => {
            // Who took a broker out, and when, is what one looks for in the log afterwards.
            tracing::info!(%endpoint, drain = on, ?pools, "operator changed an endpoint");
            json(
                StatusCode::OK,
                &json!({ "endpoint": endpoint, "drain": on, "pools": pools }),
            )
        }
        Err(error @ DrainError::UnknownPool) => {
            let pools = source.pools();
            let known: Vec<&str> = pools.iter().map(|pool| pool.name.as_str()).collect();
            failure(StatusCode::NOT_FOUND, &error.to_string(), &known)
        }
        Err(error @ DrainError::UnknownEndpoint) => {
            let hints = ["GET /api/v1/pools"];
            failure(StatusCode::NOT_FOUND, &error.to_string(), &hints)
        }
        Err(error @ DrainError::Busy) => {
            failure(StatusCode::SERVICE_UNAVAILABLE, &error.to_string(), &[])
        }
    }
}

/// A query that is not understood.
#[derive(Debug, PartialEq, Eq)]
struct UnknownQuery;

/// The value of `pool`, if it is there. A misspelt key that is passed over would drain the endpoint in ALL pools, so
/// every other query is refused.
fn pool_of_query(query: &str) -> Result<Option<Cow<'_, str>>, UnknownQuery> {
    let mut pairs = query.split('&').filter(|pair| !pair.is_empty());
    let Some(pair) = pairs.next() else {
        return Ok(None);
    };
    let name = pair
        .strip_prefix("pool=")
        .and_then(decoded)
        .ok_or(UnknownQuery)?;
    if pairs.next().is_some() || name.is_empty() {
        return Err(UnknownQuery);
    }
    Ok(Some(name))
}

/// Percent decoding (RFC 3986 §2.1); `None` for a broken escape or what is not UTF-8.
fn decoded(text: &str) -> Option<Cow<'_, str>> {
    let Some((plain, _)) = text.split_once('%') else {
        return Some(text.into());
    };
    let mut bytes = plain.as_bytes().to_vec();
    for escape in text.split('%').skip(1) {
        let (digits, rest) = escape.as_bytes().split_at_checked(2)?;
        // `from_str_radix` alone would take a sign.
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        bytes.extend_from_slice(rest);
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

fn page() -> Reply {
    let mut reply = text(StatusCode::OK, "text/html; charset=utf-8", PAGE.to_owned());
    set(&mut reply, header::CONTENT_SECURITY_POLICY, PAGE_POLICY);
    set(&mut reply, header::REFERRER_POLICY, "no-referrer");
    reply
}

fn failure(status: StatusCode, error: &str, hints: &[&str]) -> Reply {
    let mut body = json!({ "error": error });
    if !hints.is_empty() {
        body["try"] = json!(hints);
    }
    json(status, &body)
}

fn json(status: StatusCode, value: &impl serde::Serialize) -> Reply {
    match serde_json::to_string_pretty(value) {
        Ok(body) => text(status, "application/json", body + "\n"),
        // Only a map with keys that are no strings fails, and that is a mistake of ours.
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as json");
            let body = "{\"error\": \"internal\"}\n".to_owned();
            text(StatusCode::INTERNAL_SERVER_ERROR, "application/json", body)
        }
    }
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = status;
    set(&mut reply, header::CONTENT_TYPE, kind);
    set(&mut reply, header::CACHE_CONTROL, "no-store");
    set(&mut reply, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    reply
}

fn set(reply: &mut Reply, name: HeaderName, value: &'static str) {
    reply
        .headers_mut()
        .insert(name, HeaderValue::from_static(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_decoding_refuses_what_is_broken() {
        for (text, expected) in [
            ("", Some("")),
            ("emqx", Some("emqx")),
            ("%5B::1%5d:1883", Some("[::1]:1883")),
            ("a%20b%", None),
            ("%4", None),
            ("%+4", None),
            ("%zz", None),
            ("%ff", None),
            ("%€", None),
        ] {
            assert_eq!(decoded(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn misspelt_query_is_refused_and_not_passed_over() {
        assert_eq!(pool_of_query(""), Ok(None));
        assert_eq!(pool_of_query("pool=emqx"), Ok(Some("emqx".into())));
        assert_eq!(pool_of_query("pool=a%26b"), Ok(Some("a&b".into())));
        for query in [
            "pol=emqx",
            "pool=",
            "pool",
            "pool=a&pool=b",
            "pool=a&x=1",
            "pool=%",
        ] {
            assert_eq!(pool_of_query(query), Err(UnknownQuery), "{query}");
        }
    }

    #[test]
    fn paths_that_are_almost_right_are_unknown() {
        for path in [
            "",
            "healthz",
            "/healthz/",
            "//",
            "/api/v1/pools/a/b",
            "/api/v1/pools/%",
            "/api",
        ] {
            assert_eq!(Route::parse(path), None, "{path}");
        }
        let drain = Route::Drain {
            address: "[::1]:1883".into(),
            on: false,
        };
        assert_eq!(
            Route::parse("/api/v1/endpoints/%5B::1]:1883/undrain"),
            Some(drain)
        );
    }
}
