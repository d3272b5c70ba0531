//! TLS on the listeners.

use std::{
    fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration,
};

use http::{Request, Version};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};

use crate::{
    client::{DEADLINE, eventually},
    test_gateway::{TestGateway, mayfly, run},
};

/// A certificate authority for these tests.
struct CertificateAuthority {
    files: TempDir,
    issuer: Issuer<'static, KeyPair>,
    roots: RootCertStore,
}

impl CertificateAuthority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(own.der().clone()).unwrap();
        let this =
            Self { files: tempfile::tempdir().unwrap(), issuer: Issuer::new(params, key), roots };
        this.write("one.test");
        fs::write(this.path("ca.pem"), own.pem()).unwrap();
        this
    }

    fn path(&self, name: &str) -> String {
        self.files.path().join(name).to_str().unwrap().to_owned()
    }

    fn set_key_mode(&self, mode: u32) {
        fs::set_permissions(self.path("key.pem"), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Replaces the certificate by one for `host`.
    fn write(&self, host: &str) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.path("key.pem"), key.serialize_pem()).unwrap();
        self.set_key_mode(0o600);
        fs::write(self.path("cert.pem"), cert.pem()).unwrap();
    }

    fn settings(&self, prefix: &str) -> [String; 2] {
        [
            format!("server.{prefix}tls_cert={}", self.path("cert.pem")),
            format!("server.{prefix}tls_key={}", self.path("key.pem")),
        ]
    }

    async fn gateway(&self, more: &[&str]) -> TestGateway {
        let own = self.settings("");
        let settings: Vec<&str> =
            own.iter().map(String::as_str).chain(more.iter().copied()).collect();
        TestGateway::with(&settings).await
    }

    async fn connect(
        &self,
        address: SocketAddr,
        host: &str,
        protocols: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        self.connect_from(1, address, host, protocols).await
    }

    /// Connects from the address `127.0.0.from`.
    async fn connect_from(
        &self,
        from: u8,
        address: SocketAddr,
        host: &str,
        protocols: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let socket = socket_from(from).connect(address).await?;
        let name = ServerName::try_from(host.to_owned()).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, socket).await
    }
}

/// A socket of the client `127.0.0.from`.
fn socket_from(from: u8) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, from], 0))).unwrap();
    socket
}

/// A record that announces 512 bytes of ClientHello, and the first bytes of it.
const HALF_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

/// Waits until the data plane has so many connections.
async fn connections_become(gateway: &TestGateway, count: u32) {
    eventually("the data plane has so many connections", async || {
        let open = gateway.metric_with("mayfly_connections", &[("plane", "data")]).await;
        (open == f64::from(count)).then_some(())
    })
    .await;
}

/// Connections that the gateway accepted and that are open, or that it ended itself.
async fn opened_or_ended(gateway: &TestGateway) -> f64 {
    let data = [("plane", "data")];
    // One that is ended between the two readings is missing, so nothing counts twice.
    let ended = gateway.metric_with("mayfly_connections_ended_total", &data).await;
    gateway.metric_with("mayfly_connections", &data).await + ended
}

async fn get(stream: &mut TlsStream<TcpStream>, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: one.test\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b"\n") || !String::from_utf8_lossy(&said).contains("\r\n\r\n") {
        let mut piece = [0; 4096];
        let read = time::timeout(DEADLINE, stream.read(&mut piece)).await.unwrap().unwrap();
        assert!(read > 0, "closed after {said:?}");
        said.extend_from_slice(&piece[..read]);
    }
    String::from_utf8(said).unwrap()
}

#[tokio::test]
async fn both_planes_speak_tls_and_the_client_chooses_the_protocol() {
    let authority = CertificateAuthority::new();
    let admin = authority.settings("admin_");
    let gateway = authority.gateway(&[&admin[0], &admin[1]]).await;
    let token = gateway.token();
    let body = crate::guests::guest("t-headers");
    let mut control = authority.connect(gateway.control_address(), "one.test", &[]).await.unwrap();
    let put = format!(
        "PUT /v1/functions/t-headers HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         content-type: application/wasm\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    control.write_all(&[put.as_bytes(), &body].concat()).await.unwrap();
    let mut start = [0; 12];
    time::timeout(DEADLINE, control.read_exact(&mut start)).await.unwrap().unwrap();
    assert_eq!(&start, b"HTTP/1.1 201");

    let mut stream = authority.connect(gateway.data(), "one.test", &["http/1.1"]).await.unwrap();
    let said = get(&mut stream, "/f/t-headers/").await;
    assert!(said.contains("\nx-forwarded-proto: https\n"), "{said}");

    let stream = authority.connect(gateway.data(), "one.test", &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let handshake = hyper::client::conn::http2::handshake::<_, _, Empty<bytes::Bytes>>(
        TokioExecutor::new(),
        TokioIo::new(stream),
    );
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("https://one.test/f/t-headers/").body(Empty::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_2));
    let said = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&said).contains("\nx-forwarded-proto: https\n"));
}

/// Case H18.
#[tokio::test]
async fn unfinished_handshakes_time_out() {
    let authority = CertificateAuthority::new();
    let settings = ["server.tls_handshake_timeout_ms=1000", "server.header_timeout_ms=1000"];
    let gateway = authority.gateway(&settings).await;
    let mut sockets = Vec::new();
    for said in [b"".as_slice(), b"\x16", HALF_HELLO] {
        let mut socket = TcpStream::connect(gateway.data()).await.unwrap();
        socket.write_all(said).await.unwrap();
        sockets.push(socket);
    }
    for socket in &mut sockets {
        crate::hostile_clients::until_closed(socket).await;
    }
    // Single bytes do not extend the timeout.
    let mut slow = TcpStream::connect(gateway.data()).await.unwrap();
    slow.write_all(HALF_HELLO).await.unwrap();
    let drip = async {
        while slow.write_all(b"x").await.is_ok() {
            time::sleep(Duration::from_millis(100)).await;
        }
    };
    time::timeout(DEADLINE, drip).await.expect("the connection stays open");
    // A complete handshake and nothing after it.
    let mut silent = authority.connect(gateway.data(), "one.test", &[]).await.unwrap();
    let mut rest = Vec::new();
    let _ = time::timeout(DEADLINE, silent.read_to_end(&mut rest))
        .await
        .expect("the connection stays open");
    assert_eq!(rest, b"");
    gateway.metric_becomes("mayfly_connections_ended_total", 5.0).await;
    let metrics = gateway.api("/metrics").await;
    for counted in [r#"reason="tls-timeout"} 3"#, r#"reason="header-timeout"} 2"#] {
        let line = format!(r#"mayfly_connections_ended_total{{plane="data",{counted}"#);
        assert!(metrics.text().contains(&line), "{line}: {}", metrics.text());
    }
}

/// Case H18.
#[tokio::test]
async fn unfinished_handshakes_of_one_client_keep_no_other_client_out() {
    let authority = CertificateAuthority::new();
    let gateway = authority.gateway(&[]).await;
    gateway.deploy("c-hello").await;
    // As many as one client may open, without a byte, and then with the first bytes of a handshake.
    for said in [b"".as_slice(), HALF_HELLO] {
        let before = opened_or_ended(&gateway).await;
        let mut pending = Vec::new();
        for _ in 0..256 {
            let mut socket = TcpStream::connect(gateway.data()).await.unwrap();
            socket.write_all(said).await.unwrap();
            pending.push(socket);
        }
        // A handshake that has lasted for a second makes room for another one of its client, so on a
        // slow machine not all are open at once.
        eventually("all connections are accepted", async || {
            (opened_or_ended(&gateway).await == before + 256.0).then_some(())
        })
        .await;
        for _ in 0..5 {
            let stream = authority.connect_from(2, gateway.data(), "one.test", &[]).await;
            let answer = get(&mut stream.unwrap(), "/f/c-hello/").await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        }
        drop(pending);
        connections_become(&gateway, 0).await;
    }
}

/// Case H18.
#[tokio::test]
async fn a_handshake_without_a_place_ends_the_one_that_has_waited_longest() {
    let authority = CertificateAuthority::new();
    let gateway = authority.gateway(&["server.tls_handshakes=4"]).await;
    gateway.deploy("c-hello").await;
    let mut pending = Vec::new();
    for from in 1..=4 {
        let mut socket = socket_from(from).connect(gateway.data()).await.unwrap();
        socket.write_all(HALF_HELLO).await.unwrap();
        connections_become(&gateway, from.into()).await;
        pending.push(socket);
    }
    let stream = authority.connect_from(5, gateway.data(), "one.test", &[]).await;
    assert!(get(&mut stream.unwrap(), "/f/c-hello/").await.starts_with("HTTP/1.1 200 OK\r\n"));
    let metrics = gateway.api("/metrics").await;
    let counted = r#"mayfly_connections_ended_total{plane="data",reason="tls-handshakes"} 1"#;
    assert!(metrics.text().contains(counted));
    assert_eq!(crate::hostile_clients::until_closed(&mut pending[0]).await, "");
}

/// Case H18.
#[tokio::test]
async fn a_burst_of_handshakes_of_one_client_is_served() {
    let authority = Arc::new(CertificateAuthority::new());
    // Two handshakes at once for one client.
    let gateway = authority.gateway(&["server.tls_handshakes=16"]).await;
    gateway.deploy("c-hello").await;
    let address = gateway.data();
    let mut burst = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let authority = Arc::clone(&authority);
        burst.spawn(async move {
            let mut stream = authority.connect(address, "one.test", &[]).await.unwrap();
            get(&mut stream, "/f/c-hello/").await
        });
    }
    for answer in burst.join_all().await {
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
}

/// Case H18.
#[tokio::test]
async fn plain_text_is_refused_and_other_connections_are_served() {
    let authority = CertificateAuthority::new();
    let gateway = authority.gateway(&[]).await;
    gateway.deploy("c-hello").await;
    for said in
        [b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".as_slice(), &[0xff; 5000], b"\x16\x03\x00\xff\xff"]
    {
        let mut socket = TcpStream::connect(gateway.data()).await.unwrap();
        let _ = socket.write_all(said).await;
        let _ = socket.shutdown().await;
        let mut rest = Vec::new();
        let _ = time::timeout(DEADLINE, socket.read_to_end(&mut rest))
            .await
            .expect("the connection stays open");
        assert!(!rest.starts_with(b"HTTP/"), "{rest:?}");
    }
    let mut stream = authority.connect(gateway.data(), "one.test", &[]).await.unwrap();
    assert!(get(&mut stream, "/f/c-hello/").await.contains("hello from c"));
}

#[tokio::test]
async fn a_certificate_is_replaced_while_connections_stay_open() {
    let authority = CertificateAuthority::new();
    let mut gateway = authority.gateway(&[]).await;
    gateway.deploy("c-hello").await;
    let mut kept = authority.connect(gateway.data(), "one.test", &[]).await.unwrap();
    assert!(get(&mut kept, "/f/c-hello/").await.contains("hello from c"));

    authority.write("two.test");
    let becomes = async |host: &'static str| {
        eventually("the gateway serves the new certificate", async || {
            authority.connect(gateway.data(), host, &[]).await.ok()
        })
        .await
    };
    becomes("two.test").await;
    assert!(authority.connect(gateway.data(), "one.test", &[]).await.is_err());

    // A signal replaces it at once.
    authority.write("three.test");
    gateway.signal(Signal::HUP);
    becomes("three.test").await;
    assert!(get(&mut kept, "/f/c-hello/").await.contains("hello from c"));

    // An invalid certificate is reported and changes nothing.
    fs::write(authority.path("cert.pem"), "no certificate").unwrap();
    eventually("the log reports it", async || {
        gateway.log().contains("the certificate was not reloaded").then_some(())
    })
    .await;
    assert!(gateway.log().contains(&authority.path("cert.pem")));
    let metrics = gateway.api("/metrics").await;
    assert!(!metrics.text().contains(r#"mayfly_reloads_total{outcome="failed"} 0"#));
    becomes("three.test").await;
    gateway.expect_errors();
}

#[tokio::test]
async fn an_unusable_certificate_stops_the_start() {
    let authority = CertificateAuthority::new();
    let other = CertificateAuthority::new();
    let settings = [
        format!("server.tls_cert={}", authority.path("cert.pem")),
        format!("server.tls_key={}", other.path("key.pem")),
    ];
    let output = crate::test_gateway::run(serve(authority.files.path(), &settings)).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&other.path("key.pem")), "{said}");
}

fn serve(dir: &Path, settings: &[String]) -> std::process::Command {
    let mut command = crate::test_gateway::mayfly(&["serve", "--listen", "127.0.0.1:0"]);
    command.args(["--admin-listen", "127.0.0.1:0", "--data-dir"]).arg(dir.join("data"));
    for setting in settings {
        command.args(["--set", setting]);
    }
    command
}

#[tokio::test]
async fn the_command_line_connects_only_to_tls_servers_that_it_trusts() {
    let authority = CertificateAuthority::new();
    authority.write("127.0.0.1");
    let admin = authority.settings("admin_");
    let gateway = authority.gateway(&[&admin[0], &admin[1]]).await;
    let server = format!("https://{}", gateway.control_address());
    let say = async |arguments: &[&str], ca: Option<&str>| {
        let mut command = mayfly(arguments);
        command.env("MAYFLY_DATA_DIR", gateway.data_dir()).env("MAYFLY_SERVER", &server);
        if let Some(ca) = ca {
            command.env("MAYFLY_CA_FILE", ca);
        }
        let output = run(command).await;
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.success(), text.concat())
    };
    let ca = authority.path("ca.pem");
    let wasm = crate::guests::path("c-hello");
    let (done, said) = say(&["deploy", wasm.to_str().unwrap(), "--name", "greet"], Some(&ca)).await;
    assert!(done, "{said}");
    let (done, said) = say(&["invoke", "greet", "--ca-file", &ca], None).await;
    assert!(done && said == "hello from c\n", "{said}");

    let (done, said) = say(&["list"], None).await;
    assert!(!done && said.contains("--ca-file"), "{said}");
    let other = CertificateAuthority::new();
    let (done, said) = say(&["list"], Some(&other.path("ca.pem"))).await;
    assert!(!done && said.contains("invalid peer certificate"), "{said}");
    let (done, said) = say(&["list"], Some(&other.path("key.pem"))).await;
    assert!(!done && said.contains("there is no certificate in it"), "{said}");
    // A certificate for another name.
    authority.write("one.test");
    gateway.signal(Signal::HUP);
    eventually("the gateway serves the new certificate", async || {
        let (done, said) = say(&["list"], Some(&ca)).await;
        (!done && said.contains("not valid for name")).then_some(())
    })
    .await;
}
