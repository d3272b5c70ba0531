//! `mayfly invoke`: calls a function at its URL on the data plane, as its callers do.

use std::{
    io::{self, IsTerminal as _},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use gateway_api::FunctionView;
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::cli::{
    client::{
        Client, Remote,
        body::FileBody,
        transport::{self, Body, Plane, causes, escape, parse_url},
        unreadable,
    },
    failure::Failure,
    output::print,
    terminal::{self, NotText, TerminalText},
};

/// The time to wait for a response. Longer than the default ceiling of a function's timeout.
const HEAD: Duration = Duration::from_secs(600);

#[derive(Debug, clap::Args)]
pub(crate) struct Invoke {
    /// Name of the function
    name: String,
    /// Path and query below the function's URL
    path: Option<String>,
    /// Method [default: GET, or POST with --data]
    #[arg(long, short = 'X')]
    method: Option<Method>,
    /// A header; may be repeated
    #[arg(long, short = 'H', value_name = "NAME: VALUE", value_parser = parse_header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// The body: the text itself, @FILE, or - for standard input
    #[arg(long, short = 'd', value_name = "DATA", allow_hyphen_values = true)]
    data: Option<String>,
    /// Do not wait for the answer: have the call enqueued, and print where to ask for it
    #[arg(long = "async")]
    asynchronous: bool,
    /// Print the head of the response, too
    #[arg(long, short = 'i')]
    include: bool,
    /// Write the response to a terminal as it is, with all that the terminal would obey
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    remote: Remote,
}

pub(crate) fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("expected NAME: VALUE")?;
    let name = name.trim().parse().map_err(|_| format!("`{name}` is not a header name"))?;
    let value = value
        .trim()
        .parse()
        .map_err(|_| "the value has characters that are not valid in a header")?;
    Ok((name, value))
}

impl Invoke {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        let client = Client::new(&self.remote)?;
        let answer = client.get(&format!("/v1/functions/{}", escape(&self.name))).await?;
        let url = target(&answer.parse::<FunctionView>()?.url, self.path.as_deref())?;
        let body = self.data.as_deref().map(body).transpose()?;
        let default = if body.is_some() { Method::POST } else { Method::GET };
        // Without the token: it is for the control plane, and the function must not see it.
        let mut request = Request::new(body.unwrap_or_else(transport::empty));
        *request.method_mut() = self.method.unwrap_or(default);
        *request.uri_mut() = url;
        request.headers_mut().extend(self.header);
        if self.asynchronous {
            let respond_async = HeaderValue::from_static("respond-async");
            request.headers_mut().append("prefer", respond_async);
        }
        let response = transport::send(request, Plane::Data, &client.trust, HEAD).await?;
        let failed = response.status().as_u16() >= 400;
        let shown = !self.raw && io::stdout().is_terminal();
        if self.include {
            let head = head(&response);
            match shown {
                true => print(TerminalText::of(&head).as_bytes())?,
                false => print(&head)?,
            }
        }
        copy(response, shown.then(TerminalText::default)).await?;
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// `path` below the function's own URL.
fn target(url: &str, path: Option<&str>) -> Result<Uri, Failure> {
    let Some(path) = path else { return parse_url(url) };
    let base = url.trim_end_matches('/');
    let slash = if path.starts_with(['/', '?']) { "" } else { "/" };
    parse_url(&format!("{base}{slash}{path}"))
}

fn body(data: &str) -> Result<Body, Failure> {
    let stream = match data.strip_prefix('@') {
        _ if data == "-" || data == "@-" => FileBody::stdin()
            .map_err(|error| Failure::failed(format!("reading standard input: {error}")))?,
        Some(path) => {
            FileBody::open(Path::new(path)).map_err(|error| unreadable(Path::new(path), &error))?
        }
        None => return Ok(transport::full(data.to_owned())),
    };
    Ok(stream.boxed_unsync())
}

fn head(response: &Response<Incoming>) -> Vec<u8> {
    let mut head = format!("{:?} {}\n", response.version(), response.status()).into_bytes();
    for (name, value) in response.headers() {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.push(b'\n');
    }
    head.push(b'\n');
    head
}

/// Prints the body while it arrives: with `text`, as text until the person at the terminal wants its
/// bytes.
async fn copy(response: Response<Incoming>, mut text: Option<TerminalText>) -> Result<(), Failure> {
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Failure::failed(format!("the response ended early: {}", causes(&error)))
        })?;
        let Ok(bytes) = frame.into_data() else { continue };
        match text.as_mut().map(|text| text.next(&bytes)) {
            Some(Ok(shown)) => print(shown.as_bytes())?,
            Some(Err(NotText)) => {
                let begun = text.take().map(TerminalText::begun).unwrap_or_default();
                ask_for_bytes()?;
                print(&begun)?;
            }
            None => print(&bytes)?,
        }
    }
    match text.map(TerminalText::end) {
        Some(Ok(shown)) => print(shown.as_bytes()),
        // The beginning of a character.
        Some(Err(NotText)) => print(char::REPLACEMENT_CHARACTER.to_string().as_bytes()),
        None => Ok(()),
    }
}

fn ask_for_bytes() -> Result<(), Failure> {
    match terminal::ask("The response is not text. Write its bytes to the terminal?")? {
        Some(true) => Ok(()),
        Some(false) | None => {
            Err(Failure::failed("the response is not text, and was not written to the terminal")
                .note("hint: redirect the output into a file, or write the bytes with --raw"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(path: Option<&str>) -> String {
        target("http://127.0.0.1:8080/f/greet", path).unwrap().to_string()
    }

    #[test]
    fn a_path_is_below_the_functions_own() {
        assert_eq!(joined(None), "http://127.0.0.1:8080/f/greet");
        assert_eq!(joined(Some("a/b?c=d")), "http://127.0.0.1:8080/f/greet/a/b?c=d");
        assert_eq!(joined(Some("/a")), "http://127.0.0.1:8080/f/greet/a");
        assert_eq!(joined(Some("?c=d")), "http://127.0.0.1:8080/f/greet?c=d");
        assert_eq!(joined(Some("/")), "http://127.0.0.1:8080/f/greet/");
    }

    #[test]
    fn a_url_that_this_command_cannot_call_is_told() {
        assert!(target("ftp://f.example/f/greet", None).is_err());
        assert!(target("", Some("a")).is_err());
    }

    #[test]
    fn headers_are_name_and_value() {
        let (name, value) = parse_header("X-A:  b: c ").unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-a", "b: c"));
        assert!(parse_header("X-Empty:").is_ok());
        assert!(parse_header("no colon").is_err());
        assert!(parse_header("a b: c").is_err());
        assert!(parse_header("a: b\r\nc: d").is_err());
    }
}
