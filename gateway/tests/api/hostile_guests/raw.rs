//! Responses over HTTP/1.1 as bytes, parsed as the standard says.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::test_gateway::TestGateway;

/// The bytes of one connection.
pub(super) struct RawResponse {
    /// The status line and the headers, in lower case.
    pub(super) head: String,
    /// The bytes after the head.
    pub(super) body: Vec<u8>,
    /// All bytes.
    pub(super) bytes: Vec<u8>,
}

/// Names and values in lower case.
pub(super) type HeaderList = Vec<(String, String)>;

/// A complete response.
#[derive(Debug, PartialEq)]
pub(super) struct ParsedResponse {
    pub(super) status: u16,
    pub(super) headers: HeaderList,
    pub(super) body: Vec<u8>,
    pub(super) trailers: HeaderList,
}

impl RawResponse {
    /// Sends a request on a new connection and reads until it is closed.
    pub(super) async fn get(gateway: &TestGateway, target: &str) -> Self {
        let mut socket = TcpStream::connect(gateway.data()).await.unwrap();
        let request = format!("GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        // A reset counts as a close.
        drop(socket.read_to_end(&mut bytes).await);
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
        let body = bytes[end..].to_vec();
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
        Self { head, body, bytes }
    }

    pub(super) fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find(|line| line.starts_with(&format!("{name}: ")));
        line.map(|line| line.split_once(": ").unwrap().1)
    }

    /// Whether a client would accept the response as complete.
    pub(super) fn is_complete(&self) -> bool {
        self.parse().is_some()
    }

    /// The response as a client would parse it, if it is complete.
    pub(super) fn parse(&self) -> Option<ParsedResponse> {
        let (body, trailers) =
            match (self.header("transfer-encoding"), self.header("content-length")) {
                (Some("chunked"), None) => dechunk(&self.body)?,
                (None, Some(length)) => {
                    let length: usize = length.parse().unwrap();
                    (self.body.len() == length).then(|| (self.body.clone(), Vec::new()))?
                }
                other => panic!("framed by {other:?}"),
            };
        let headers = fields(self.head.split_once("\r\n").unwrap().1);
        Some(ParsedResponse { status: self.status(), headers, body, trailers })
    }
}

/// The body and the trailers, if the last chunk is there.
fn dechunk(mut rest: &[u8]) -> Option<(Vec<u8>, HeaderList)> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?, 16).ok()?;
        rest = &rest[end + 2..];
        if length == 0 {
            break;
        }
        body.extend(rest.get(..length)?);
        rest = rest[length..].strip_prefix(b"\r\n")?;
    }
    let trailers = std::str::from_utf8(rest).ok()?.to_ascii_lowercase();
    (trailers == "\r\n" || trailers.ends_with("\r\n\r\n")).then(|| (body, fields(&trailers)))
}

fn fields(lines: &str) -> HeaderList {
    let fields = lines.lines().take_while(|line| !line.is_empty());
    let fields = fields.map(|line| line.split_once(':').expect("a name and a value"));
    fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}
