//! Guests that lie about the length of their responses.

use std::{path::Path, process::Command, sync::Arc};

use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{
    GuestWatch,
    raw::{ParsedResponse, RawResponse},
};
use crate::{
    client::Http2,
    test_gateway::{TestGateway, run},
};

/// False `content-length` values for a body of `bytes` bytes: single ones, and two in one response.
fn false_claims(bytes: u64) -> Vec<String> {
    let mut claims = Vec::new();
    // Other numbers, and numbers with typical mistakes in them.
    for more in [1, 2, 3, 7, 10, 64, 100, 4_096, 8_192, 65_536, 100_000, 1 << 32, 1 << 53, 1 << 63]
    {
        claims.push((bytes + more).to_string());
    }
    for less in [1, 2, 3, 7, 100, bytes / 2, bytes] {
        claims.push(bytes.saturating_sub(less).to_string());
    }
    claims.push((u128::from(bytes) + (1 << 64)).to_string());
    claims.push((u128::from(bytes) * 10).to_string());
    // Values that are not numbers, though some parsers accept them.
    for form in [
        "%2bN",
        "-N",
        "0xN",
        "0oN",
        "N.0",
        "N.",
        ".N",
        "Ne0",
        "N%20",
        "%20N",
        "%09N",
        "N%09",
        "N,N",
        "N,%20N",
        "N,",
        ",N",
        "N;",
        "%22N%22",
        "N%20N",
        "N%00",
        "%00N",
        "N%0d%0a",
        "N%0a",
        "N%0d",
        "N%ff",
        "%d9%a5",
        "N_0",
        "Nu",
        "",
        "%20",
        "chunked",
        "NaN",
        "99999999999999999999",
    ] {
        claims.push(form.replace('N', &bytes.to_string()));
    }
    // Two values, equal or different.
    for (first, second) in
        [(0, 0), (0, 1), (1, 0), (1, 1), (100_000, 0), (0, 100_000), (1 << 32, 0), (0, 1 << 32)]
    {
        claims.push(format!("{}&again={}", bytes + first, bytes + second));
    }
    claims.retain(|claim| *claim != bytes.to_string());
    claims.sort();
    claims.dedup();
    claims
}

/// Case G08.
#[tokio::test]
async fn a_response_with_a_false_content_length_is_never_complete() {
    let gateway = Arc::new(TestGateway::start().await);
    gateway.deploy("t-hostile").await;
    let watch = GuestWatch::begin(&gateway).await;
    let connection = Http2::open(gateway.data()).await;
    let mut asked = 0;
    for bytes in [0_u64, 1, 5, 9, 1_000, 8_192, 65_536, 70_000, 300_000] {
        for claim in false_claims(bytes) {
            let target = format!("/f/t-hostile/length?bytes={bytes}&claim={claim}");
            let raw = RawResponse::get(&gateway, &target).await;
            // The host may have refused the claim before the guest could send anything.
            let fine =
                raw.status() >= 400 || raw.parse().is_none_or(|answer| answer.body == b"refused\n");
            assert!(fine, "{target}: {} {}", raw.head, raw.body.len());

            let url = format!("http://{}{target}", gateway.data());
            let fine = match connection.try_open_stream(&url).await {
                Ok(response) if response.status().as_u16() < 400 => {
                    let body = response.into_body().collect().await;
                    body.map_or(true, |body| body.to_bytes() == b"refused\n"[..])
                }
                Ok(_) | Err(_) => true,
            };
            assert!(fine, "{target} over HTTP/2");
            asked += 1;
        }
        let right = format!("/f/t-hostile/length?bytes={bytes}&claim={bytes}");
        assert!(RawResponse::get(&gateway, &right).await.is_complete(), "{right}");
    }
    assert!(asked >= 500, "{asked}");
    drop(connection);
    watch.settles().await;
}

const NAMES: [&str; 21] = [
    "connection",
    "Connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "TE",
    "trailer",
    "transfer-encoding",
    "Transfer-Encoding",
    "upgrade",
    "Upgrade",
    "http2-settings",
    "host",
    "proxy-authenticate",
    "content-length",
    "content-length%20",
    "content-length:",
    "a%20b",
    "a%0d%0acontent-length",
    "%00",
    "",
];

const VALUES: [&str; 15] = [
    "close",
    "chunked",
    "gzip,%20chunked",
    "identity",
    "5",
    "4",
    "6",
    "0",
    "-1",
    "%2b5",
    "5,%205",
    "5%0d%0aconnection:%20close",
    "a%0ab:%20c",
    "a%00b",
    "",
];

/// Case G14.
#[tokio::test]
async fn guests_cannot_set_the_framing_of_a_message() {
    let gateway = Arc::new(TestGateway::start().await);
    gateway.deploy("t-hostile").await;
    let watch = GuestWatch::begin(&gateway).await;
    let mut answers = Vec::new();
    for name in NAMES {
        for value in VALUES {
            for part in ["", "&trailer=1", "&again=6"] {
                let target = format!("/f/t-hostile/forbidden?name={name}&value={value}{part}");
                let raw = RawResponse::get(&gateway, &target).await;
                check_framing(&raw, &target);
                answers.push((target, raw));
            }
        }
    }
    assert!(answers.len() > 300, "{}", answers.len());
    watch.settles().await;
    second_parser_agrees(answers).await;
}

/// Asserts that a response has exactly one framing and no header that belongs to the gateway.
fn check_framing(raw: &RawResponse, target: &str) {
    let RawResponse { head, body, .. } = raw;
    let text = String::from_utf8_lossy(body);
    let framings = head.matches("\r\ntransfer-encoding:").count()
        + head.matches("\r\ncontent-length:").count();
    assert_eq!(framings, 1, "{target}: {head}");
    for ours in ["keep-alive", "upgrade", "proxy-connection", "te", "trailer", "http2-settings"] {
        assert!(raw.header(ours).is_none(), "{target}: {head}");
    }
    assert!(matches!(raw.header("connection"), Some("close") | None), "{target}: {head}");
    if raw.status() == 200 && raw.is_complete() {
        let told = text.contains("refused: ");
        assert!(told || text.contains("hello"), "{target}: {head}{text}");
        // Trailers follow the last chunk: none may be there.
        assert!(raw.header("content-length").is_none_or(|length| length == body.len().to_string()));
    }
}

/// Asserts that another parser reads the same from the same bytes: the end of each response, if it
/// has one, and its contents.
async fn second_parser_agrees(answers: Vec<(String, RawResponse)>) {
    let answers = Arc::new(answers);
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let said = Arc::clone(&answers);
    let serving = tokio::spawn(async move {
        loop {
            let (socket, _) = server.accept().await.unwrap();
            let said = Arc::clone(&said);
            tokio::spawn(async move { replay(socket, &said).await });
        }
    });
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/hostile_guests/second_parser.js");
    let mut command = Command::new("node");
    command.arg(script).args([port.to_string(), answers.len().to_string()]);
    assert!(
        Command::new("node").arg("--version").output().is_ok_and(|output| output.status.success()),
        "this test needs Node.js (Debian: apt-get install nodejs)"
    );
    let output = run(command).await;
    serving.abort();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found = String::from_utf8(output.stdout).unwrap();
    assert_eq!(found.lines().count(), answers.len());
    let mut whole = 0;
    for line in found.lines() {
        let found: Value = serde_json::from_str(line).unwrap();
        let number = usize::try_from(found["n"].as_u64().unwrap()).unwrap();
        let (target, raw) = &answers[number];
        let ours = raw.parse();
        assert_eq!(found["whole"], ours.is_some(), "{target}: {line}");
        if let Some(ours) = ours {
            assert_eq!(parsed_by_other(&found), ours, "{target}");
            whole += 1;
        }
    }
    assert!(whole > answers.len() / 2, "{whole}");
}

/// Responds to `GET /n` with the bytes of the nth response, and closes the connection.
async fn replay(mut socket: TcpStream, answers: &[(String, RawResponse)]) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let number = head.strip_prefix("GET /").unwrap().split(' ').next().unwrap();
    let (_, raw) = &answers[number.parse::<usize>().unwrap()];
    // The parser may close the connection before everything is sent.
    drop(socket.write_all(&raw.bytes).await);
}

fn parsed_by_other(found: &Value) -> ParsedResponse {
    let fields = |name: &str| {
        let flat = found[name].as_array().unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_ascii_lowercase();
        flat.chunks(2).map(|field| (text(&field[0]), text(&field[1]))).collect()
    };
    ParsedResponse {
        status: u16::try_from(found["status"].as_u64().unwrap()).unwrap(),
        headers: fields("headers"),
        // Each character is one byte.
        body: found["body"].as_str().unwrap().chars().map(|byte| byte as u8).collect(),
        trailers: fields("trailers"),
    }
}
