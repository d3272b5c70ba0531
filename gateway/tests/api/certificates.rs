//! Certificates of owners' hosts: uploads, handshakes, and what requests may ask for.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use http::Method;
use rcgen::{CertificateParams, Issuer, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};

use crate::{client::FullResponse, test_gateway::TestGateway};

/// A gateway with TLS, whose own certificate is for `default.test`.
struct Setup {
    gateway: TestGateway,
    issuer: Issuer<'static, KeyPair>,
    config: Arc<ClientConfig>,
    _files: TempDir,
}

/// A certificate with its key, as PEM.
struct Made {
    chain: String,
    key: String,
}

impl Made {
    fn body(&self) -> Value {
        json!({"chain": self.chain, "key": self.key})
    }
}

impl Setup {
    async fn new(more: &[&str]) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(own.der().clone()).unwrap();
        let issuer = Issuer::new(params, key);
        let files = tempfile::tempdir().unwrap();
        let default = made(&issuer, &["default.test"]);
        let path = |name: &str| files.path().join(name).display().to_string();
        fs::write(path("cert.pem"), &default.chain).unwrap();
        fs::write(path("key.pem"), &default.key).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(path("key.pem"), mode).unwrap();
        let cert = format!("server.tls_cert={}", path("cert.pem"));
        let key = format!("server.tls_key={}", path("key.pem"));
        let settings = [&[&*cert, &*key], more].concat();
        let gateway = TestGateway::with(&settings).await;
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { gateway, issuer, config: Arc::new(config), _files: files }
    }

    fn made(&self, hosts: &[&str]) -> Made {
        made(&self.issuer, hosts)
    }

    async fn put(&self, name: &str, certificate: &Made) -> FullResponse {
        let target = format!("/v1/certificates/{name}");
        self.gateway.control(Method::PUT, &target).json(&certificate.body()).send().await
    }

    async fn stored(&self, name: &str, hosts: &[&str]) -> Made {
        let made = self.made(hosts);
        let stored = self.put(name, &made).await;
        assert!(matches!(stored.status(), 200 | 201), "{stored:?}");
        made
    }

    async fn connect(&self, host: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let socket = TcpStream::connect(self.gateway.data()).await?;
        let name = ServerName::try_from(host.to_owned()).unwrap();
        TlsConnector::from(Arc::clone(&self.config)).connect(name, socket).await
    }

    /// Whether a client that trusts the authority gets a certificate for this host.
    async fn has_certificate(&self, host: &str) -> bool {
        self.connect(host).await.is_ok()
    }
}

fn made(issuer: &Issuer<'static, KeyPair>, hosts: &[&str]) -> Made {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(hosts).unwrap().signed_by(&key, issuer).unwrap();
    Made { chain: certificate.pem(), key: key.serialize_pem() }
}

/// The first certificate that the server has sent.
fn sent(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

async fn request(stream: &mut TlsStream<TcpStream>, host: &str) -> String {
    let request = format!("GET /f/hello/ HTTP/1.1\r\nhost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !is_whole(&answer) {
        let read = stream.read_buf(&mut answer).await.unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&answer));
    }
    String::from_utf8(answer).unwrap()
}

/// Whether `answer` has as many bytes as its head says.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.expect("a length").parse::<usize>().unwrap()
}

/// Case K02.
#[tokio::test]
async fn a_handshake_gets_the_certificate_of_the_host_that_it_names() {
    let mut setup = Setup::new(&[]).await;
    assert!(setup.has_certificate("default.test").await);
    assert!(!setup.has_certificate("shop.example").await);
    let made = setup.made(&["shop.example", "*.shop.example"]);
    let stored = setup.put("shop", &made).await;
    assert_eq!(stored.status(), 201, "{stored:?}");
    assert_eq!(stored.json()["hosts"], json!(["*.shop.example", "shop.example"]));
    assert!(!stored.text().contains("PRIVATE KEY"), "{stored:?}");
    let exact = setup.stored("exact", &["a.shop.example"]).await;

    for round in 0..2 {
        assert!(setup.has_certificate("shop.example").await, "{round}");
        assert!(setup.has_certificate("any.shop.example").await);
        assert!(setup.has_certificate("default.test").await);
        assert!(!setup.has_certificate("b.any.shop.example").await, "a star is one label");
        assert!(!setup.has_certificate("other.example").await);
        let stream = setup.connect("a.shop.example").await.unwrap();
        let of_exact: Vec<u8> = pem(&exact.chain);
        assert_eq!(sent(&stream), of_exact, "the exact name comes first");
        setup.gateway.restart().await;
    }
    let listed = setup.gateway.api("/v1/certificates").await;
    assert_eq!(listed.json()["certificates"].as_array().unwrap().len(), 2);
    assert_eq!(listed.json()["certificates"][1]["name"], "shop");
    let shown = setup.gateway.api("/v1/certificates/exact").await;
    assert_eq!(shown.json()["hosts"], json!(["a.shop.example"]));
    let days =
        setup.gateway.metric_with("mayfly_certificate_expiry_days", &[("certificate", "shop")]);
    assert!(days.await > 300.0);

    // After a deletion the next name that fits has its place.
    let delete = |name: &str| {
        setup.gateway.control(Method::DELETE, &format!("/v1/certificates/{name}")).send()
    };
    assert_eq!(delete("exact").await.status(), 204);
    assert_eq!(delete("exact").await.problem(), (404, "certificate-not-found"));
    let stream = setup.connect("a.shop.example").await.unwrap();
    assert_eq!(sent(&stream), pem(&made.chain));
    assert_eq!(delete("shop").await.status(), 204);
    assert!(!setup.has_certificate("shop.example").await);
}

/// The first certificate of a chain.
fn pem(chain: &str) -> Vec<u8> {
    use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject as _};
    CertificateDer::from_pem_slice(chain.as_bytes()).unwrap().to_vec()
}

/// Case K04.
#[tokio::test]
async fn a_request_is_for_a_host_of_the_certificate_of_its_connection() {
    let setup = Setup::new(&["server.host_routes=all"]).await;
    setup.gateway.deploy("hello").await;
    setup.stored("shop", &["shop.example", "www.shop.example"]).await;
    setup.stored("bank", &["bank.example"]).await;
    let status = |text: &str| text.split(' ').nth(1).unwrap().to_owned();
    // A connection is used for all hosts of its certificate, as clients of HTTP/2 do.
    let mut shop = setup.connect("shop.example").await.unwrap();
    for host in ["shop.example", "www.shop.example", "SHOP.example:443"] {
        assert_eq!(status(&request(&mut shop, host).await), "200", "{host}");
    }
    for host in ["bank.example", "default.test", "127.0.0.1"] {
        let answer = request(&mut shop, host).await;
        assert_eq!(status(&answer), "421", "{host}: {answer}");
        assert!(answer.contains("misdirected-request"), "{answer}");
    }
    // On a connection with the listener's own certificate, hosts that have none of their own.
    let mut own = setup.connect("default.test").await.unwrap();
    for host in ["default.test", "127.0.0.1", "other.example"] {
        assert_eq!(status(&request(&mut own, host).await), "200", "{host}");
    }
    for host in ["shop.example", "bank.example"] {
        assert_eq!(status(&request(&mut own, host).await), "421", "{host}");
    }
    let counted =
        setup.gateway.metric_with("mayfly_problems_total", &[("type", "misdirected-request")]);
    assert_eq!(counted.await, 5.0);
    // A certificate that was renewed is the same one: open connections go on.
    setup.stored("shop", &["shop.example", "www.shop.example"]).await;
    assert_eq!(status(&request(&mut shop, "shop.example").await), "200");
}

/// Case K05.
#[tokio::test]
async fn what_is_no_certificate_with_its_key_is_refused_and_changes_nothing() {
    let setup = Setup::new(&["quotas.certificates=2"]).await;
    let shop = setup.stored("shop", &["shop.example"]).await;
    let other = setup.made(&["other.example"]);
    let mixed = Made { chain: other.chain.clone(), key: shop.key.clone() };
    let refused = setup.put("other", &mixed).await;
    assert_eq!(refused.problem(), (422, "bad-certificate"), "{refused:?}");
    assert!(!refused.text().contains(shop.key.lines().nth(1).unwrap()));
    assert_eq!(setup.put("Other", &other).await.problem(), (422, "bad-certificate"));
    let mut params = CertificateParams::new(vec!["old.example".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2001, 1, 1);
    params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    let key = KeyPair::generate().unwrap();
    let expired = params.signed_by(&key, &setup.issuer).unwrap();
    let expired = Made { chain: expired.pem(), key: key.serialize_pem() };
    let refused = setup.put("old", &expired).await;
    assert_eq!(refused.problem(), (422, "bad-certificate"));
    assert!(refused.text().contains("has expired"), "{refused:?}");

    // A host has one certificate.
    let taken = setup.put("other", &setup.made(&["other.example", "shop.example"])).await;
    assert_eq!(taken.problem(), (409, "host-taken"), "{taken:?}");
    assert!(taken.text().contains("shop.example"));
    assert!(!setup.has_certificate("other.example").await, "nothing was stored");
    assert_eq!(setup.put("other", &other).await.status(), 201);
    let third = setup.put("third", &setup.made(&["third.example"])).await;
    assert_eq!(third.problem(), (409, "certificate-quota"), "{third:?}");
    assert_eq!(setup.put("other", &setup.made(&["third.example"])).await.status(), 200);
    assert!(!setup.has_certificate("other.example").await, "the name was given up");
    assert!(setup.has_certificate("third.example").await);

    let target = "/v1/certificates/shop";
    let json = |body: Value| setup.gateway.control(Method::PUT, target).json(&body).send();
    assert_eq!(json(json!({"chain": 1})).await.problem(), (400, "bad-json"));
    assert_eq!(
        json(json!({"chain": "", "key": "", "hosts": []})).await.problem(),
        (400, "bad-json")
    );
    assert_eq!(setup.gateway.api("/v1/certificates/none").await.status(), 404);
    assert!(setup.has_certificate("shop.example").await);
}

/// Case K06.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_swaps_under_load_fail_no_handshake_and_no_request() {
    let setup = Arc::new(Setup::new(&["server.host_routes=all"]).await);
    setup.gateway.deploy("hello").await;
    setup.stored("shop", &["shop.example"]).await;
    let mut open = setup.connect("shop.example").await.unwrap();
    let swaps = Arc::new(AtomicU32::new(0));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (setup, swaps) = (Arc::clone(&setup), Arc::clone(&swaps));
            tokio::spawn(async move {
                let mut handshakes = 0;
                while swaps.load(Relaxed) < 100 {
                    let mut stream = setup.connect("shop.example").await.unwrap();
                    let answer = request(&mut stream, "shop.example").await;
                    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                    handshakes += 1;
                }
                handshakes
            })
        })
        .collect();
    let mut last = String::new();
    for _ in 0..100 {
        last = setup.stored("shop", &["shop.example"]).await.chain;
        swaps.fetch_add(1, Relaxed);
    }
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
    let answer = request(&mut open, "shop.example").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "a connection of before all swaps: {answer}");
    assert_eq!(sent(&setup.connect("shop.example").await.unwrap()), pem(&last));
}

/// Case K07.
#[tokio::test]
async fn keys_are_stored_encrypted_and_survive_a_kill() {
    let mut setup = Setup::new(&[]).await;
    let made = setup.stored("shop", &["shop.example"]).await;
    setup.gateway.kill();
    let secret = made.key.lines().nth(1).unwrap();
    for file in setup.gateway.files("") {
        let bytes = fs::read(&file).unwrap();
        let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert!(!found, "{}", file.display());
    }
    setup.gateway.start_again().await;
    assert!(setup.has_certificate("shop.example").await);
    // Without the key of the secrets, the certificate is left out, and the listener's own is sent.
    setup.gateway.expect_errors();
    setup.gateway.kill();
    fs::remove_file(setup.gateway.data_dir().join("secrets.key")).unwrap();
    setup.gateway.start_again().await;
    assert!(!setup.has_certificate("shop.example").await);
    assert!(setup.has_certificate("default.test").await);
    assert!(setup.gateway.log().contains("cannot be decrypted"));
    assert!(!setup.gateway.log().contains(secret));
}

/// Case K09.
#[tokio::test]
async fn a_certificate_of_a_routes_host_is_deleted_on_request_only() {
    let setup = Setup::new(&[]).await;
    setup.gateway.deploy("hello").await;
    setup.stored("shop", &["shop.example", "*.shop.example"]).await;
    let route = json!({"host": "www.shop.example", "path": "/", "function": "hello"});
    let put = setup.gateway.control(Method::PUT, "/v1/routes/www").json(&route).send().await;
    assert_eq!(put.status(), 201, "{put:?}");
    let delete = |query: &str| {
        let target = format!("/v1/certificates/shop{query}");
        setup.gateway.control(Method::DELETE, &target).send()
    };
    let refused = delete("").await;
    assert_eq!(refused.problem(), (409, "certificate-in-use"), "{refused:?}");
    assert!(refused.text().contains("www"), "{refused:?}");
    assert_eq!(delete("?force=maybe").await.problem(), (400, "bad-query"));
    assert_eq!(delete("?force=true").await.status(), 204);

    // The same by the command line.
    let dir = tempfile::tempdir().unwrap();
    let made = setup.made(&["shop.example"]);
    let (chain, key) = (dir.path().join("chain.pem"), dir.path().join("key.pem"));
    fs::write(&chain, &made.chain).unwrap();
    fs::write(&key, &made.key).unwrap();
    let (chain, key) = (chain.to_str().unwrap(), key.to_str().unwrap());
    let line = ["certificate", "set", "shop", "--chain", chain, "--key", key];
    let output = setup.gateway.cli(&line).await;
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with("shop: for shop.example, until "), "{said}");
    assert!(setup.has_certificate("shop.example").await);
    let listed = setup.gateway.cli(&["certificate", "list"]).await;
    assert!(String::from_utf8_lossy(&listed.stdout).contains("shop.example"));
    let deleted = setup.gateway.cli(&["certificate", "delete", "shop"]).await;
    assert!(deleted.status.success(), "{deleted:?}");
}
