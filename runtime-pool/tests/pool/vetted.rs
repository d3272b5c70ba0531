//! Requests of the gateway itself to URLs that owners name.

use std::{
    net::{Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use runtime_pool::{CdnLoop, Listeners, Pool, VettedAnswer, VettedError, VettedRequest};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::support::TestPool;

const WITHIN: Duration = Duration::from_secs(10);
const BYTES: usize = 64 << 10;

/// A server on all addresses of this machine that counts its connections.
struct Server {
    port: u16,
    connections: Arc<AtomicU32>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Gives each connection one answer, and leaves it open.
    async fn answering(answer: &'static [u8]) -> Self {
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, requests) = (Arc::<AtomicU32>::default(), Arc::<Mutex<_>>::default());
        let (counter, seen) = (Arc::clone(&connections), Arc::clone(&requests));
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                counter.fetch_add(1, Relaxed);
                let seen: Arc<Mutex<Vec<String>>> = Arc::clone(&seen);
                tokio::spawn(async move {
                    let mut read = vec![0; 4096];
                    let length = socket.read(&mut read).await.unwrap();
                    let text = String::from_utf8_lossy(&read[..length]).into_owned();
                    seen.lock().unwrap().push(text);
                    socket.write_all(answer).await.unwrap();
                    // Until the client closes it.
                    while socket.read(&mut read).await.is_ok_and(|length| length > 0) {}
                });
            }
        });
        Self { port, connections, requests }
    }

    fn connections(&self) -> u32 {
        self.connections.load(Relaxed)
    }

    fn url(&self, path: &str) -> http::Uri {
        format!("http://127.0.0.1:{}{path}", self.port).parse().unwrap()
    }
}

async fn get(pool: &Pool, uri: http::Uri) -> Result<VettedAnswer, VettedError> {
    pool.vetted_client("test").send(VettedRequest::get(uri, WITHIN, BYTES)).await
}

fn permitted() -> TestPool {
    TestPool::with(|config| config.outbound.permit = vec!["127.0.0.1".parse().unwrap()])
}

/// Case S10.
#[tokio::test]
async fn no_spelling_of_a_private_address_is_called_by_the_gateway_itself() {
    let server = Server::answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let pool = TestPool::new();
    let client = pool.pool.vetted_client("test");
    let spellings = include_str!("../private_addresses.txt");
    for host in spellings.lines() {
        let uri = format!("http://{host}:{}/", server.port).parse().unwrap();
        let error = client.send(VettedRequest::get(uri, WITHIN, BYTES)).await.unwrap_err();
        assert_eq!(error, VettedError::Unreachable, "{host}");
    }
    assert!(spellings.lines().count() > 60);
    assert_eq!(server.connections(), 0);
    let refused = pool.counter("mayfly_outbound_own_requests_total");
    assert_eq!(refused, spellings.lines().count() as f64);
}

/// Case S10.
#[tokio::test]
async fn an_owner_cannot_tell_a_closed_port_from_one_that_is_forbidden() {
    let server = Server::answering(b"").await;
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let pool = permitted();
    pool.pool.set_listeners(Listeners {
        data: vec![SocketAddr::from(([127, 0, 0, 1], server.port))],
        control: Vec::new(),
    });
    for uri in [
        format!("http://127.0.0.1:{closed}/"),
        format!("http://127.0.0.1:{}/", server.port),
        format!("http://127.0.0.2:{closed}/"),
        "http://10.0.0.1/".to_owned(),
        "http://no-such-name.invalid/".to_owned(),
    ] {
        let error = get(&pool.pool, uri.parse().unwrap()).await.unwrap_err();
        assert_eq!(error, VettedError::Unreachable, "{uri}");
    }
    assert_eq!(server.connections(), 0, "the gateway's own listener is out of reach");
    let addresses = ["ftp://127.0.0.1/", "/path", "http://user@127.0.0.1/", "http://127.0.0.1:0/"];
    for uri in addresses.into_iter().chain(["http://greet.mayfly.internal/"]) {
        let error = get(&pool.pool, uri.parse().unwrap()).await.unwrap_err();
        assert_eq!(error, VettedError::Address, "{uri}");
    }
}

#[tokio::test]
async fn an_answer_is_bounded_and_a_redirect_is_an_answer() {
    let pool = permitted();
    let moved = Server::answering(
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 10\r\n\r\n0123456789",
    )
    .await;
    let client = pool.pool.vetted_client("test");
    for (most, kept, truncated) in [(10, "0123456789", false), (9, "012345678", true)] {
        let request = VettedRequest::get(moved.url("/a?b"), WITHIN, most);
        let answer = client.send(request).await.unwrap();
        assert_eq!(answer.status, 302);
        assert_eq!(answer.headers["location"], "http://127.0.0.1:1/");
        assert_eq!((&*answer.body, answer.truncated), (kept.as_bytes(), truncated));
    }
    assert_eq!(moved.connections(), 2, "no connection is kept");
}

#[tokio::test]
async fn a_request_says_which_gateways_it_has_passed_and_keeps_no_field_of_the_connection() {
    let pool = permitted();
    let server = Server::answering(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    let mut request = VettedRequest::get(server.url("/in?x=1"), WITHIN, BYTES);
    request.method = Method::POST;
    request.body = Bytes::from_static(b"four");
    for (name, value) in [
        (header::HOST, "evil.example"),
        (header::CONNECTION, "upgrade"),
        (header::UPGRADE, "websocket"),
        (header::TRANSFER_ENCODING, "chunked"),
        (header::CONTENT_TYPE, "text/plain"),
    ] {
        request.headers.insert(name, HeaderValue::from_static(value));
    }
    let passed = [("cdn-loop", "other, mayfly")].map(|(name, value)| {
        (http::HeaderName::from_static(name), HeaderValue::from_static(value))
    });
    request.cdn_loop = CdnLoop::of(&passed.into_iter().collect());
    let answer = pool.pool.vetted_client("test").send(request).await.unwrap();
    assert_eq!(answer.status, 204);
    let sent = server.requests.lock().unwrap()[0].to_ascii_lowercase();
    assert!(sent.starts_with("post /in?x=1 http/1.1\r\n"), "{sent}");
    assert!(sent.contains("cdn-loop: other, mayfly, mayfly\r\n"), "{sent}");
    assert!(sent.contains(&format!("host: 127.0.0.1:{}\r\n", server.port)), "{sent}");
    assert!(sent.contains("content-length: 4\r\n") && sent.ends_with("\r\n\r\nfour"), "{sent}");
    for absent in ["evil", "upgrade", "chunked"] {
        assert!(!sent.contains(absent), "{sent}");
    }
}

#[tokio::test]
async fn a_server_that_stalls_is_given_up_in_time() {
    let pool = permitted();
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
    for answer in [&b""[..], b"HTTP/1.1 200", half] {
        let server = Server::answering(answer).await;
        let (began, within) = (Instant::now(), Duration::from_millis(300));
        let request = VettedRequest::get(server.url("/"), within, BYTES);
        let error = pool.pool.vetted_client("test").send(request).await.unwrap_err();
        assert_eq!(error, VettedError::NoAnswer);
        assert!(began.elapsed() < WITHIN);
    }
}
