//! The gateway behind nginx and haproxy: all of them must frame every request alike.
//!
//! Each request is sent through both proxies twice: to the gateway, and to a sink that parses what
//! the proxy forwards in the only way that is left, and responds as the functions would.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream, UnixStream},
    time,
};

use super::smuggling::{AMBIGUOUS, CLEAR, request};
use crate::{client::eventually, guests, test_gateway::TestGateway};

/// The request after each tested one. It closes the connection.
const LAST: &str = "GET /f/c-hello/last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

/// A reverse proxy with two upstreams. Its sockets are in a directory of its own.
struct ReverseProxy {
    name: &'static str,
    process: Child,
    dir: TempDir,
}

impl ReverseProxy {
    /// Starts the proxy. `DIR` in its settings stands for its directory.
    async fn start(name: &'static str, arguments: &[&str], settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("settings");
        fs::write(&file, settings.replace("DIR", dir.path().to_str().unwrap())).unwrap();
        let (program, libraries) = installed(name);
        let process = Command::new(program)
            .env("LD_LIBRARY_PATH", libraries)
            .args(arguments)
            .arg(&file)
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.path().join("said")).unwrap())
            .spawn()
            .unwrap();
        let mut proxy = Self { name, process, dir };
        eventually("the proxy listens", async || {
            let ended = proxy.process.try_wait().unwrap();
            let said = || fs::read_to_string(proxy.dir.path().join("said")).unwrap();
            assert!(ended.is_none(), "{name}: {}", said());
            proxy.open("sink").await
        })
        .await;
        proxy
    }

    async fn nginx(gateway: u16, sink: u16) -> Self {
        let server = |name: &str, port: u16| {
            format!(
                "upstream {name} {{ server 127.0.0.1:{port}; keepalive 8; }}
                server {{
                    listen unix:DIR/{name};
                    location / {{
                        proxy_pass http://{name};
                        proxy_http_version 1.1;
                        proxy_set_header connection '';
                        proxy_request_buffering off;
                    }}
                }}"
            )
        };
        // As nginx does it by default: it reads the body first, and speaks HTTP/1.0.
        let plain = format!(
            "server {{
                listen unix:DIR/plain;
                location / {{ proxy_pass http://127.0.0.1:{gateway}; }}
            }}"
        );
        let settings = format!(
            "daemon off; master_process off; pid DIR/pid; error_log DIR/said crit;
            events {{ worker_connections 512; }}
            http {{
                access_log off;
                client_body_temp_path DIR/client; proxy_temp_path DIR/proxy;
                fastcgi_temp_path DIR/fastcgi; uwsgi_temp_path DIR/uwsgi; scgi_temp_path DIR/scgi;
                client_max_body_size 64m; client_header_timeout 2s; client_body_timeout 2s; keepalive_timeout 2s;
                {} {} {plain}
            }}",
            server("gateway", gateway),
            server("sink", sink)
        );
        Self::start("nginx", &["-e", "stderr", "-c"], &settings).await
    }

    async fn haproxy(gateway: u16, sink: u16) -> Self {
        // The gateway is checked as haproxy does by itself. One check that fails takes it out.
        let server = |name: &str, port: u16| {
            let (check, how) = match name {
                "gateway" => (" option httpchk\n", " check inter 100ms fall 1"),
                _ => ("", ""),
            };
            format!(
                "frontend {name}\n bind unix@DIR/{name}\n default_backend {name}\n\
                backend {name}\n http-reuse always\n{check} server one 127.0.0.1:{port}{how}\n"
            )
        };
        let settings = format!(
            "defaults\n mode http\n timeout connect 10s\n timeout server 30s\n timeout client 2s\n \
             timeout http-request 2s\n timeout http-keep-alive 2s\n{}{}",
            server("gateway", gateway),
            server("sink", sink)
        );
        Self::start("haproxy", &["-db", "-f"], &settings).await
    }

    async fn open(&self, to: &str) -> Option<UnixStream> {
        UnixStream::connect(self.dir.path().join(to)).await.ok()
    }

    /// The responses to `bytes` from one of the upstreams: statuses and bodies.
    async fn answers(&self, to: &str, bytes: &str) -> Vec<(u16, Vec<u8>)> {
        let mut socket = self.open(to).await.unwrap();
        // The proxy may close the connection before everything is sent.
        let _ = socket.write_all(bytes.as_bytes()).await;
        let mut socket = BufReader::new(socket);
        let mut answers = Vec::new();
        let all = async {
            while let Some((line, body)) = message(&mut socket).await {
                let status = line.split(' ').nth(1).unwrap().parse().unwrap();
                answers.push((status, body));
            }
        };
        time::timeout(Duration::from_secs(60), all).await.expect("the connection stays open");
        answers
    }
}

impl Drop for ReverseProxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The path of a program, and the directory of its libraries.
fn installed(name: &str) -> (PathBuf, PathBuf) {
    // This builds the proxies, too.
    let _ = guests::path("echo");
    let unpacked =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../functions/.cache/fronts").join("usr");
    let libraries = unpacked.join(format!("lib/{}-linux-gnu", std::env::consts::ARCH));
    let program = [unpacked, PathBuf::from("/usr")]
        .into_iter()
        .map(|usr| usr.join("sbin").join(name))
        .find(|program| program.exists());
    let missing =
        format!("this test needs {name} (functions/build test, or apt-get install {name})");
    (program.expect(&missing), libraries)
}

/// The first line and the body of the next message. `None` at the end, or if the message is
/// incomplete.
async fn message(socket: &mut (impl AsyncRead + Unpin)) -> Option<(String, Vec<u8>)> {
    let head = until(socket, b"\r\n\r\n").await?.to_ascii_lowercase();
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let mut body = Vec::new();
    match (field("transfer-encoding:"), field("content-length:")) {
        (Some("chunked"), None) => loop {
            let size = until(socket, b"\r\n").await?;
            let size = usize::from_str_radix(size.trim().split(';').next()?, 16).unwrap();
            if size == 0 {
                while until(socket, b"\r\n").await? != "\r\n" {}
                break;
            }
            let from = body.len();
            body.resize(from + size, 0);
            socket.read_exact(&mut body[from..]).await.ok()?;
            until(socket, b"\r\n").await?;
        },
        (None, length) => {
            body.resize(length.map_or(0, |length| length.parse().unwrap()), 0);
            socket.read_exact(&mut body).await.ok()?;
        }
        both => panic!("framed by {both:?}: {head}"),
    }
    Some((head.lines().next()?.to_owned(), body))
}

async fn until(socket: &mut (impl AsyncRead + Unpin), end: &[u8]) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end) {
        bytes.push(socket.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// An upstream that responds as the functions would, and counts the requests.
async fn sink() -> (u16, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests = Arc::<AtomicU32>::default();
    let counted = Arc::clone(&requests);
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(served(socket, Arc::clone(&counted)));
        }
    });
    (port, requests)
}

async fn served(socket: TcpStream, counted: Arc<AtomicU32>) {
    let mut socket = BufReader::new(socket);
    while let Some((line, body)) = message(&mut socket).await {
        counted.fetch_add(1, Relaxed);
        let body = if line.contains("/f/echo/") { body } else { b"hello from c\n".to_vec() };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        let _ = socket.write_all(&[head.as_bytes(), &body].concat()).await;
    }
}

/// Case H10.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_frames_every_request_as_a_reverse_proxy_does() {
    let gateway = TestGateway::start().await;
    gateway.deploy("echo").await;
    gateway.deploy("c-hello").await;
    let (port, counted) = sink().await;
    let mut forms: Vec<(&str, String)> =
        AMBIGUOUS.iter().map(|(name, case)| (*name, request(case) + LAST)).collect();
    forms.extend(CLEAR.iter().map(|(name, head, body)| {
        (*name, format!("POST /f/echo/ HTTP/1.1\r\nhost: a\r\n{head}\r\n{body}{LAST}"))
    }));
    let behind = gateway.data().port();
    for proxy in
        [ReverseProxy::nginx(behind, port).await, ReverseProxy::haproxy(behind, port).await]
    {
        let name = proxy.name;
        let before = (counted.load(Relaxed), gateway.metric("mayfly_requests_total").await);
        let sent = forms.iter().map(|(form, bytes)| {
            let proxy = &proxy;
            async move {
                let both =
                    tokio::join!(proxy.answers("sink", bytes), proxy.answers("gateway", bytes));
                (form, both)
            }
        });
        let answers: Vec<_> = stream::iter(sent).buffer_unordered(16).collect().await;
        let mut served = 0;
        for (form, (understood, reached)) in answers {
            for (at, answer) in reached.iter().enumerate().filter(|(_, answer)| answer.0 == 200) {
                assert_eq!(Some(answer), understood.get(at), "{name}: {form}: {understood:?}");
                served += 1;
            }
        }
        // Every unambiguous request was served, and no function saw more requests than the proxy
        // forwarded.
        assert!(served >= 2 * CLEAR.len(), "{name}: {served}");
        let passed_on = counted.load(Relaxed) - before.0;
        let seen = gateway.metric("mayfly_requests_total").await - before.1;
        assert!(seen <= f64::from(passed_on), "{name}: {seen} of {passed_on}");
    }
}

/// Case H14.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_answer_reaches_a_client_behind_a_reverse_proxy() {
    let gateway = TestGateway::start().await;
    gateway.deploy("hello").await;
    let proxy = ReverseProxy::nginx(gateway.data().port(), 9).await;
    let bytes = 8 << 20;
    let head = format!(
        "POST /f/hello/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {bytes}\r\n\r\n"
    );
    let request = head + &"a".repeat(bytes);
    for to in ["plain", "gateway"] {
        for _ in 0..4 {
            let answers = proxy.answers(to, &request).await;
            assert_eq!(answers, [(200, b"hello from rust\n".to_vec())], "{to}");
        }
    }
}

/// Case G23.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reverse_proxy_that_speaks_http_1_0_does_not_take_a_broken_response_for_a_whole_one() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-hostile").await;
    gateway.deploy("t-big").await;
    let proxy = ReverseProxy::nginx(gateway.data().port(), 9).await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let whole = proxy.answers("plain", &get("/f/t-big/?bytes=300000")).await;
    assert_eq!(whole[0].0, 200);
    let broken = proxy.answers("plain", &get("/f/t-hostile/trap?bytes=200000")).await;
    assert_eq!(broken, [], "the response looks complete");
}
