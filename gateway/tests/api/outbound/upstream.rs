//! Servers that guests call.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{self, ServerConfig, pki_types::PrivatePkcs8KeyDer},
    server::TlsStream,
};

/// A server on all addresses of this machine. It counts connections. Ends with the test's runtime.
pub(crate) struct Upstream {
    port: u16,
    seen: Arc<UpstreamLog>,
}

#[derive(Default)]
struct UpstreamLog {
    connections: AtomicU32,
    open: AtomicU32,
    most_open: AtomicU32,
    heads: Mutex<Vec<String>>,
    called_at: Mutex<Vec<IpAddr>>,
}

/// One connection to it.
pub(crate) struct UpstreamConnection<S = TcpStream> {
    socket: S,
    seen: Arc<UpstreamLog>,
}

impl Upstream {
    /// Responds to every request on a kept connection with the request's head as the body.
    pub(crate) async fn echo() -> Self {
        Self::answering(|head| {
            let length = head.len();
            format!(
                "HTTP/1.1 203 OK\r\ncontent-type: text/x\r\ncontent-length: {length}\r\n\r\n{head}"
            )
        })
        .await
    }

    /// Responds to every request on a kept connection.
    pub(crate) async fn answering(
        answer: impl Fn(&str) -> String + Clone + Send + 'static,
    ) -> Self {
        Self::serving(move |mut served| {
            let answer = answer.clone();
            async move {
                while let Some(head) = served.head().await {
                    served.write(answer(&head).as_bytes()).await;
                }
            }
        })
        .await
    }

    /// Responds `ok` over TLS, with a self-signed certificate for `name`, which is returned as PEM.
    pub(crate) async fn echo_over_tls(name: &str) -> (Self, String) {
        let ok = |_: &str| "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_owned();
        Self::answering_over_tls(name, ok).await
    }

    /// Responds to every request on a kept connection over TLS, with a self-signed certificate for
    /// `name`, which is returned as PEM.
    pub(crate) async fn answering_over_tls(
        name: &str,
        answer: impl Fn(&str) -> String + Clone + Send + 'static,
    ) -> (Self, String) {
        let certified = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
        let config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certified.cert.der().clone()], key.into())
                .unwrap();
        let tls = TlsAcceptor::from(Arc::new(config));
        let upstream = Self::serving(move |served| {
            let (tls, answer) = (tls.clone(), answer.clone());
            async move {
                let Some(mut served) = served.secured(&tls).await else { return };
                while let Some(head) = served.head().await {
                    served.write(answer(&head).as_bytes()).await;
                }
            }
        })
        .await;
        (upstream, certified.cert.pem())
    }

    /// Runs `serve` for each connection.
    pub(crate) async fn serving<F, Serving>(serve: F) -> Self
    where
        F: Fn(UpstreamConnection) -> Serving + Send + 'static,
        Serving: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("[::]:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::<UpstreamLog>::default();
        let counter = Arc::clone(&seen);
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let seen = Arc::clone(&counter);
                seen.connections.fetch_add(1, Relaxed);
                let open = seen.open.fetch_add(1, Relaxed) + 1;
                seen.most_open.fetch_max(open, Relaxed);
                let at = socket.local_addr().unwrap().ip().to_canonical();
                seen.called_at.lock().unwrap().push(at);
                let served = serve(UpstreamConnection { socket, seen: Arc::clone(&seen) });
                tokio::spawn(async move {
                    served.await;
                    seen.open.fetch_sub(1, Relaxed);
                });
            }
        });
        Self { port, seen }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its authority with the loopback address.
    pub(crate) fn host(&self) -> String {
        SocketAddr::from(([127, 0, 0, 1], self.port)).to_string()
    }

    pub(crate) fn connections(&self) -> u32 {
        self.seen.connections.load(Relaxed)
    }

    pub(crate) fn open(&self) -> u32 {
        self.seen.open.load(Relaxed)
    }

    pub(crate) fn most_open(&self) -> u32 {
        self.seen.most_open.load(Relaxed)
    }

    /// The heads of all requests, in lower case.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.seen.heads.lock().unwrap().clone()
    }

    /// The local addresses of its connections.
    pub(crate) fn called_at(&self) -> Vec<IpAddr> {
        self.seen.called_at.lock().unwrap().clone()
    }
}

impl UpstreamConnection {
    /// The same after a TLS handshake; `None` if it fails.
    async fn secured(self, tls: &TlsAcceptor) -> Option<UpstreamConnection<TlsStream<TcpStream>>> {
        let Self { socket, seen } = self;
        Some(UpstreamConnection { socket: tls.accept(socket).await.ok()?, seen })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> UpstreamConnection<S> {
    /// The head of the next request, in lower case; `None` at the end.
    pub(crate) async fn head(&mut self) -> Option<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.socket.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        self.seen.heads.lock().unwrap().push(head.clone());
        Some(head)
    }

    /// The rest of a chunked body that has no trailers, without its framing.
    pub(crate) async fn chunks(&mut self) -> String {
        let mut rest = Vec::new();
        while !rest.ends_with(b"0\r\n\r\n") {
            rest.push(self.socket.read_u8().await.unwrap());
        }
        let rest = String::from_utf8(rest).unwrap();
        rest.lines().skip(1).step_by(2).collect()
    }

    /// The client may have closed the connection.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes).await;
    }

    /// Sends nothing and waits until the client closes the connection.
    pub(crate) async fn wait_for_the_end(&mut self) {
        let mut ignored = [0; 1024];
        while self.socket.read(&mut ignored).await.is_ok_and(|read| read > 0) {}
    }
}
