//! The client of the control plane: its address, the token, and its errors.

pub(crate) mod body;
mod list;
pub(crate) mod tls;
pub(crate) mod transport;

use std::{
    fmt, fs,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use bytes::Bytes;
use gateway_api::{MistakeView, NextCursor, ProblemView};
use http::{HeaderValue, Method, Request, StatusCode, Uri, header, request};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    cli::{
        client::{
            tls::Trust,
            transport::{Body, Plane},
        },
        failure::Failure,
        output::{self, Output, plain, print_line},
        printable::{printable, printable_json},
    },
    config::CONTROL_SOCKET,
};

/// The control plane's URL for those who name a token and no URL.
const LOCAL_SERVER: &str = "http://127.0.0.1:9090";

/// The time for requests without an upload.
const QUICK: Duration = Duration::from_secs(30);

/// The size limit of an answer. Far above the answers of a control plane; another server might send
/// more.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// The options of all client commands.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Client options")]
pub(crate) struct Remote {
    /// URL of the gateway's control plane [default: the socket in the data directory, which needs
    /// no token; with a token, http://127.0.0.1:9090]
    #[arg(long, value_name = "URL", env = "MAYFLY_SERVER")]
    server: Option<String>,
    /// File that holds the token [default: MAYFLY_TOKEN, MAYFLY_TOKEN_FILE, or admin.token in
    /// the gateway's data directory]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Send the token to another machine over http://, where others may read it on its way
    #[arg(long)]
    insecure: bool,
    /// PEM file with the certificate authorities to trust for an https:// gateway [default: those
    /// that this machine trusts]
    #[arg(long, value_name = "FILE", env = "MAYFLY_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// Form of the output
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) output: Output,
}

/// The environment's sources of a token.
#[derive(Default)]
struct TokenSources {
    token: Option<String>,
    token_file: Option<PathBuf>,
    data_dir: Option<PathBuf>,
}

impl TokenSources {
    fn from_environment() -> Self {
        // An empty variable counts as unset: that is how scripts unset one.
        let read = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            token: read("MAYFLY_TOKEN").map(|token| token.to_string_lossy().into_owned()),
            token_file: read("MAYFLY_TOKEN_FILE").map(PathBuf::from),
            data_dir: read("MAYFLY__DATA_DIR")
                .or_else(|| read("MAYFLY_DATA_DIR"))
                .map(PathBuf::from),
        }
    }

    /// Whether the user has named a token.
    fn are_named(&self) -> bool {
        self.token.is_some() || self.token_file.is_some()
    }

    fn data_dir(&self) -> &Path {
        self.data_dir.as_deref().unwrap_or(Path::new("data"))
    }

    /// Takes the first of: the file of the flag, MAYFLY_TOKEN, the file of MAYFLY_TOKEN_FILE, the
    /// gateway's own file.
    fn find(&self, flag: Option<PathBuf>) -> Result<Token, Failure> {
        let file = || self.token_file.clone().filter(|_| self.token.is_none());
        let named = flag.or_else(file);
        if let (None, Some(token)) = (&named, &self.token) {
            return Token::new(token);
        }
        let path = named.unwrap_or_else(|| self.data_dir().join("admin.token"));
        match fs::read_to_string(&path) {
            Ok(text) => Token::new(&text),
            Err(error) => Err(Failure::failed(format!(
                "no token: MAYFLY_TOKEN is not set, and reading {} failed: {error}",
                path.display()
            ))
            .note(
                "hint: the gateway writes admin.token into its data directory at its first \
                 start; name it with --token-file, MAYFLY_TOKEN_FILE or MAYFLY_DATA_DIR",
            )
            .note(
                "hint: on the gateway's machine, `mayfly token create NAME` makes a token for others",
            )),
        }
    }
}

/// The `Authorization` header. `Debug` does not show it.
struct Token(HeaderValue);

impl Token {
    fn new(text: &str) -> Result<Self, Failure> {
        let text = text.trim();
        let value = HeaderValue::from_str(&format!("Bearer {text}"));
        match value {
            Ok(mut value) if !text.is_empty() && text.is_ascii() => {
                value.set_sensitive(true);
                Ok(Self(value))
            }
            _ => Err(Failure::failed(
                "the token is empty or has characters that are not valid in a token",
            )),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A client of one control plane.
#[derive(Debug)]
pub(crate) struct Client {
    /// Its URL, also where requests take the socket.
    server: Uri,
    access: Access,
    pub(crate) trust: Trust,
}

/// How a client reaches a control plane, and as whom.
#[derive(Debug)]
enum Access {
    /// By the socket, as the user who runs this command.
    Socket(PathBuf),
    /// By the network, as the holder of a token.
    Token { token: Token, insecure: bool },
}

impl Access {
    fn plane(&self) -> Plane<'_> {
        match self {
            Self::Socket(path) => Plane::Socket(path),
            &Self::Token { insecure, .. } => Plane::Control { insecure },
        }
    }
}

/// An answer of the control plane.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Failure::failed(format!("the answer is not of the API's form: {error}"))
                .note("hint: check that --server is a Mayfly control plane, of a version like that of this command")
        })
    }

    /// Prints `what` was done to `name`, or the body for programs.
    pub(crate) fn done(&self, output: Output, what: &str, name: &str) -> Result<ExitCode, Failure> {
        match output {
            Output::Json => self.print_json()?,
            Output::Text => print_line(&format!("{what} {}", printable(name)))?,
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Prints the body: unchanged, but for a terminal without what that would obey.
    pub(crate) fn print_json(&self) -> Result<(), Failure> {
        match str::from_utf8(&self.body) {
            Ok(json) if io::stdout().is_terminal() => {
                output::print(printable_json(json).as_bytes())?;
            }
            Ok(_) | Err(_) => output::print(&self.body)?,
        }
        if self.body.is_empty() || self.body.ends_with(b"\n") {
            return Ok(());
        }
        output::print(b"\n")
    }
}

impl Client {
    pub(crate) fn new(remote: &Remote) -> Result<Self, Failure> {
        Self::with(remote, &TokenSources::from_environment())
    }

    fn with(remote: &Remote, sources: &TokenSources) -> Result<Self, Failure> {
        // An empty variable counts as unset, as those of tokens do.
        let url = remote.server.as_deref().filter(|url| !url.is_empty());
        let access = if url.is_none() && remote.token_file.is_none() && !sources.are_named() {
            // Whoever listens on a port of this machine could be anybody, so the administrator's
            // token is only sent there when the user names the port or the token.
            Access::Socket(sources.data_dir().join(CONTROL_SOCKET))
        } else {
            let token = sources.find(remote.token_file.clone())?;
            Access::Token { token, insecure: remote.insecure }
        };
        let server = transport::parse_url(url.unwrap_or(match access {
            Access::Socket(_) => "http://localhost",
            Access::Token { .. } => LOCAL_SERVER,
        }))?;
        let trust = remote.ca_file.clone().map_or(Trust::System, Trust::File);
        Ok(Self { server, access, trust })
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Answer, Failure> {
        let request = self.request(Method::GET, path)?;
        self.send(build(request, transport::empty())?, QUICK).await
    }

    /// Reads an answer of any length while it arrives, and hands on each piece.
    pub(crate) async fn download(
        &self,
        path: &str,
        mut each: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut body = self.open(path, QUICK).await?;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                let causes = transport::causes(&error);
                Failure::failed(format!("the answer stopped before its end: {causes}"))
            })?;
            if let Ok(piece) = frame.into_data() {
                each(&piece)?;
            }
        }
        Ok(())
    }

    /// Whether there is something at this path.
    pub(crate) async fn has(&self, path: &str) -> Result<bool, Failure> {
        let request = build(self.request(Method::GET, path)?, transport::empty())?;
        let Answer { status, body } = self.answer(request, QUICK).await?;
        match status {
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_success() => Ok(true),
            status => Err(problem(status, &body)),
        }
    }

    pub(crate) async fn post(&self, path: &str) -> Result<Answer, Failure> {
        let request = self.request(Method::POST, path)?;
        self.send(build(request, transport::empty())?, QUICK).await
    }

    pub(crate) async fn post_json(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Answer, Failure> {
        self.send(self.json_request(Method::POST, path, body)?, QUICK).await
    }

    pub(crate) async fn put_json(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Answer, Failure> {
        self.send(self.json_request(Method::PUT, path, body)?, QUICK).await
    }

    pub(crate) async fn patch(
        &self,
        path: &str,
        patch: &impl Serialize,
    ) -> Result<Answer, Failure> {
        let request = self.request(Method::PATCH, path)?;
        let request = request.header(header::CONTENT_TYPE, "application/merge-patch+json");
        self.send(build(request, json(patch)?)?, QUICK).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<Answer, Failure> {
        let request = self.request(Method::DELETE, path)?;
        self.send(build(request, transport::empty())?, QUICK).await
    }

    /// Follows a list to its end, a page at a time. `query` must not be empty.
    pub(crate) async fn pages(
        &self,
        path: &str,
        query: &str,
        mut each: impl FnMut(&Answer) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut cursor: Option<String> = None;
        loop {
            let from = cursor.as_deref().map_or_else(String::new, |cursor| {
                format!("&cursor={}", transport::escape(cursor))
            });
            let answer = self.get(&format!("{path}?{query}{from}")).await?;
            each(&answer)?;
            let next = plain(&answer.parse::<NextCursor>()?.next_cursor);
            // A cursor that does not advance would make this loop endless.
            if next.is_none() || next == cursor {
                return Ok(());
            }
            cursor = next;
        }
    }

    /// A request with the token, if one is needed, and without its body.
    pub(crate) fn request(&self, method: Method, path: &str) -> Result<request::Builder, Failure> {
        let base = self.server.to_string();
        let uri = format!("{}{path}", base.trim_end_matches('/'));
        let uri: Uri = uri.parse().map_err(|_| Failure::usage(format!("`{uri}` is not a URL")))?;
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(header::ACCEPT, "application/json, application/problem+json");
        Ok(match &self.access {
            Access::Socket(_) => request,
            Access::Token { token, .. } => request.header(header::AUTHORIZATION, token.0.clone()),
        })
    }

    /// A request with a value of the API as its body.
    pub(crate) fn json_request(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Request<Body>, Failure> {
        let request = self.request(method, path)?;
        build(request.header(header::CONTENT_TYPE, "application/json"), json(body)?)
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn send(
        &self,
        request: Request<Body>,
        head_deadline: Duration,
    ) -> Result<Answer, Failure> {
        let answer = self.answer(request, head_deadline).await?;
        let Answer { status, body } = &answer;
        if status.is_success() { Ok(answer) } else { Err(problem(*status, body)) }
    }

    /// Sends a request for something large, whose body the caller reads.
    pub(crate) async fn open(
        &self,
        path: &str,
        head_deadline: Duration,
    ) -> Result<Incoming, Failure> {
        let request = build(self.request(Method::GET, path)?, transport::empty())?;
        let plane = self.access.plane();
        let response = transport::send(request, plane, &self.trust, head_deadline).await?;
        let (head, body) = response.into_parts();
        if head.status.is_success() {
            return Ok(body);
        }
        Err(problem(head.status, &whole(body).await?))
    }

    /// The same, whatever the status of the answer is.
    pub(crate) async fn answer(
        &self,
        request: Request<Body>,
        head_deadline: Duration,
    ) -> Result<Answer, Failure> {
        let plane = self.access.plane();
        let response = transport::send(request, plane, &self.trust, head_deadline).await?;
        let (head, body) = response.into_parts();
        Ok(Answer { status: head.status, body: whole(body).await? })
    }
}

/// Reads all of an answer.
async fn whole(body: Incoming) -> Result<Bytes, Failure> {
    let reading = Limited::new(body, ANSWER_BYTES_MAX).collect();
    let body = tokio::time::timeout(QUICK, reading)
        .await
        .map_err(|_| Failure::failed("the answer stopped before its end"))?
        .map_err(|error| Failure::failed(format!("reading the answer: {error}")))?;
    Ok(body.to_bytes())
}

/// A value of the API as a body.
fn json(value: &impl Serialize) -> Result<Body, Failure> {
    let bytes = serde_json::to_vec(value)
        .map_err(|error| Failure::usage(format!("this cannot be sent: {error}")))?;
    Ok(transport::full(bytes))
}

/// A request with its body.
pub(crate) fn build(request: request::Builder, body: Body) -> Result<Request<Body>, Failure> {
    request.body(body).map_err(|error| Failure::usage(format!("this cannot be sent: {error}")))
}

/// The failure that an error answer describes.
pub(crate) fn problem(status: StatusCode, body: &[u8]) -> Failure {
    problem_about(status, body, |path, detail| format!("{path}: {detail}"))
}

/// The same about a document, with a line for the path and the detail of each mistake in it.
pub(crate) fn problem_about(
    status: StatusCode,
    body: &[u8],
    line: impl Fn(&str, &str) -> String,
) -> Failure {
    let problem: ProblemView = serde_json::from_slice(body).unwrap_or_default();
    let title = if problem.title.is_empty() { status.to_string() } else { problem.title };
    // The mistakes say more than the detail, which is made of them.
    let detail = problem.detail.filter(|_| problem.mistakes.is_empty());
    let mut failure = Failure::failed(match detail {
        Some(detail) => format!("{title}: {detail}"),
        None => title,
    });
    for MistakeView { path, detail } in &problem.mistakes {
        failure = failure.note(line(path, detail));
    }
    if let Some(hint) = problem.hint {
        failure = failure.note(format!("hint: {hint}"));
    }
    if let Some(id) = problem.request_id {
        failure = failure.note(format!("request id: {id}"));
    }
    failure
}

/// A file on the command line that cannot be read.
pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("reading {}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
