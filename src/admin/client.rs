//! The other end of the admin API, for the commands that talk to a running instance: one request, one deadline, one
//! bounded answer, blocking. Plain http only; the token then travels in the clear, so this is for loopback and tunnels.

use crate::logic::endpoint::EndpointId;
use crate::logic::secret::Secret;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::future::pending;
use std::io;
use std::pin::pin;
use std::time::Duration;
use tokio::net::TcpStream;

/// From the look-up of the name to the last byte of the answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// The longest answer that is read: 100 endpoints take about 60 KB.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why a command got no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not an address of an admin API.
    #[error("{0:?} is not the url of an admin api; write http://HOST:PORT")]
    Url(String),
    /// https was asked for.
    #[error("{0:?}: only http is spoken here; use the loopback address or a tunnel")]
    Scheme(String),
    /// A token with characters that no header can carry.
    #[error("the token holds characters that cannot be sent")]
    Token,
    /// Nobody answers there.
    #[error("cannot connect to {authority}")]
    Connect {
        /// Host and port.
        authority: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The connection broke, or what answers speaks no HTTP.
    #[error("no answer from {authority}")]
    Exchange {
        /// Host and port.
        authority: String,
        /// The cause.
        #[source]
        source: hyper::Error,
    },
    /// The answer took too long.
    #[error("no answer from {0} within {DEADLINE:?}")]
    Deadline(String),
    /// The answer is longer than any answer of ours.
    #[error("the answer of {0} is too long")]
    TooLong(String),
    /// 401.
    #[error("{0} wants a token; give it with --token-file")]
    Unauthorized(String),
    /// Any other refusal, in the server's words.
    #[error("{message} ({status})")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The server's explanation, with what it says one can try.
        message: String,
    },
    /// Something else than JSON: not an admin API of this program.
    #[error("{0} answered something that is no json")]
    NotJson(String),
    /// No runtime: this process is out of something.
    #[error("cannot start a runtime")]
    Runtime(#[source] io::Error),
}

/// One admin API.
#[derive(Clone, Debug)]
pub struct Client {
    host: String,
    port: u16,
    authority: String,
    token: Option<Secret>,
}

impl Client {
    /// A client of `http://HOST:PORT`; the scheme may be left out.
    pub fn new(url: &str, token: Option<Secret>) -> Result<Self, ClientError> {
        let bad = || ClientError::Url(url.to_owned());
        let full = if url.contains("://") {
            url.to_owned()
        } else {
            format!("http://{url}")
        };
        let uri: Uri = full.parse().map_err(|_| bad())?;
        if uri.scheme_str() != Some("http") {
            return Err(ClientError::Scheme(url.to_owned()));
        }
        let authority = uri.authority().ok_or_else(bad)?;
        if authority.as_str().contains('@')
            || !matches!(uri.path(), "" | "/")
            || uri.query().is_some()
        {
            return Err(bad());
        }
        let port = if authority.as_str().ends_with(authority.host()) {
            80
        } else {
            authority.port_u16().ok_or_else(bad)?
        };
        // The resolver wants an IPv6 address without its brackets.
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        if host.is_empty() {
            return Err(bad());
        }
        Ok(Self {
            host,
            port,
            authority: authority.as_str().to_owned(),
            token,
        })
    }

    /// `GET /api/v1/status`
    pub fn status(&self) -> Result<Value, ClientError> {
        self.request(Method::GET, "/api/v1/status")
    }

    /// `GET /api/v1/pools`
    pub fn pools(&self) -> Result<Value, ClientError> {
        self.request(Method::GET, "/api/v1/pools")
    }

    /// `GET /api/v1/members`
    pub fn members(&self) -> Result<Value, ClientError> {
        self.request(Method::GET, "/api/v1/members")
    }

    /// Takes an endpoint out (`on`) or back in, in one pool or in all that know it.
    pub fn drain(
        &self,
        endpoint: EndpointId,
        pool: Option<&str>,
        on: bool,
    ) -> Result<Value, ClientError> {
        let verb = if on { "drain" } else { "undrain" };
        let mut path = format!(
            "/api/v1/endpoints/{}/{verb}",
            encoded(&endpoint.to_string())
        );
        if let Some(pool) = pool {
            path.push_str("?pool=");
            path.push_str(&encoded(pool));
        }
        self.request(Method::POST, &path)
    }

    fn request(&self, method: Method, path: &str) -> Result<Value, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(ClientError::Runtime)?;
        let exchange = async { tokio::time::timeout(DEADLINE, self.exchange(method, path)).await };
        let outcome = runtime.block_on(exchange);
        // A name server that does not answer holds a thread, which must not hold the command.
        runtime.shutdown_background();
        let (status, body) =
            outcome.map_err(|_elapsed| ClientError::Deadline(self.authority.clone()))??;
        self.judge(status, &body)
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|source| ClientError::Connect {
                authority: self.authority.clone(),
                source,
            })?;
        let broken = |source| ClientError::Exchange {
            authority: self.authority.clone(),
            source,
        };
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = method;
        *request.uri_mut() = path
            .parse()
            .map_err(|_| ClientError::Url(format!("{}{path}", self.authority)))?;
        let host = HeaderValue::from_str(&self.authority)
            .map_err(|_| ClientError::Url(self.authority.clone()))?;
        request.headers_mut().insert(HOST, host);
        request
            .headers_mut()
            .insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(token) = &self.token {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
                .map_err(|_| ClientError::Token)?;
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let mut exchange = pin!(async {
            let answer = sender.send_request(request).await.map_err(broken)?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX)
                .collect()
                .await;
            let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
                Ok(source) => broken(*source),
                Err(other) => {
                    debug_assert!(other.is::<LengthLimitError>());
                    ClientError::TooLong(self.authority.clone())
                }
            })?;
            Ok((status, body.to_bytes()))
        });
        let mut driver = pin!(async {
            // Its errors reach the exchange too, which has the better words; its end is not the exchange's end.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "admin connection ended");
            }
            pending::<()>().await;
        });
        tokio::select! {
            outcome = &mut exchange => outcome,
            () = &mut driver => pending().await,
        }
    }

    fn judge(&self, status: StatusCode, body: &[u8]) -> Result<Value, ClientError> {
        if status == StatusCode::UNAUTHORIZED {
            return Err(ClientError::Unauthorized(self.authority.clone()));
        }
        let value: Option<Value> = serde_json::from_slice(body).ok();
        if status.is_success() {
            return value.ok_or_else(|| ClientError::NotJson(self.authority.clone()));
        }
        let said = value.as_ref().and_then(|value| value["error"].as_str());
        let mut message = said.unwrap_or("the request was refused").to_owned();
        let hints = value.as_ref().and_then(|value| value["try"].as_array());
        let hints: Vec<&str> = hints
            .into_iter()
            .flatten()
            .filter_map(|hint| hint.as_str())
            .collect();
        if !hints.is_empty() {
            message.push_str("; try ");
            message.push_str(&hints.join(", "));
        }
        Err(ClientError::Refused {
            status: status.as_u16(),
            message,
        })
    }
}

/// Percent encoding of everything but unreserved characters (RFC 3986 §2.3).
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            const HEX: [char; 16] = [
                '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
            ];
            out.extend([
                '%',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_with_and_without_scheme() {
        for (url, host, port) in [
            ("http://127.0.0.1:9090", "127.0.0.1", 9090),
            ("127.0.0.1:9090", "127.0.0.1", 9090),
            ("http://lb-1.example:9090/", "lb-1.example", 9090),
            ("http://[::1]:9090", "::1", 9090),
            ("http://lb-1.example", "lb-1.example", 80),
        ] {
            let client = Client::new(url, None).unwrap();
            assert_eq!((client.host.as_str(), client.port), (host, port), "{url}");
        }
    }

    #[test]
    fn urls_that_cannot_work_are_refused_with_a_reason() {
        assert!(matches!(
            Client::new("https://a:1", None),
            Err(ClientError::Scheme(_))
        ));
        assert!(matches!(
            Client::new("ftp://a:1", None),
            Err(ClientError::Scheme(_))
        ));
        for url in [
            "",
            "http://",
            "http://a:b",
            "http://a:99999",
            "http://u@a:1",
            "http://a:1/x",
            "a b",
        ] {
            let error = Client::new(url, None).unwrap_err();
            assert!(matches!(error, ClientError::Url(_)), "{url}: {error:?}");
        }
    }

    #[test]
    fn encoding_leaves_nothing_that_has_a_meaning_in_a_path() {
        assert_eq!(encoded("[::1]:1883"), "%5B%3A%3A1%5D%3A1883");
        assert_eq!(encoded("a/b?c&d é"), "a%2Fb%3Fc%26d%20%C3%A9");
    }

    #[test]
    fn refusal_is_told_in_the_servers_words() {
        let client = Client::new("127.0.0.1:9090", None).unwrap();
        let body = br#"{"error": "no pool of this name", "try": ["emqx", "other"]}"#;
        let error = client.judge(StatusCode::NOT_FOUND, body).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no pool of this name; try emqx, other (404)"
        );
        let error = client
            .judge(StatusCode::BAD_GATEWAY, b"<html>")
            .unwrap_err();
        assert_eq!(error.to_string(), "the request was refused (502)");
        let error = client.judge(StatusCode::OK, b"<html>").unwrap_err();
        assert!(matches!(error, ClientError::NotJson(_)));
    }
}
