//! The requests that the guests `t-outbound` and `t-outbound-p3` make, read from the query of their
//! own request, percent-encoded:
//!
//! - `to`: the authority; `scheme` (default `http`), `path`, `method`, `header=name:value`
//! - `body`: what to write as the request's body; with an empty value a body without a byte
//! - `connect`, `first`, `between`: timeouts in nanoseconds
//! - `times`: the number of requests; `at_once`: how many to send before reading an answer
//! - `again`: the path is `/f/{again}` and the guest's own path, so that each guest calls the next

pub struct Plan {
    pub to: String,
    pub scheme: String,
    pub path: String,
    pub method: String,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Option<String>,
    pub connect: Option<u64>,
    pub first: Option<u64>,
    pub between: Option<u64>,
    pub times: u64,
    pub at_once: u64,
}

impl Plan {
    pub fn of(path_with_query: &str) -> Self {
        let (_, query) = path_with_query.split_once('?').unwrap_or_default();
        let pairs: Vec<(&str, String)> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name, decode(value)))
            .collect();
        let text = |name: &str| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.clone());
        let number = |name: &str| text(name).and_then(|text| text.parse().ok());
        let header = |text: &str| {
            let (name, value) = text.split_once(':').unwrap_or((text, ""));
            (name.to_owned(), value.as_bytes().to_vec())
        };
        let again = text("again").map(|function| format!("/f/{function}{path_with_query}"));
        Self {
            to: text("to").unwrap_or_default(),
            scheme: text("scheme").unwrap_or("http".to_owned()),
            path: again.or_else(|| text("path")).unwrap_or("/".to_owned()),
            method: text("method").unwrap_or("GET".to_owned()),
            headers: pairs.iter().filter(|pair| pair.0 == "header").map(|pair| header(&pair.1)).collect(),
            body: text("body"),
            connect: number("connect"),
            first: number("first"),
            between: number("between"),
            times: number("times").unwrap_or(1),
            at_once: number("at_once").unwrap_or(1),
        }
    }
}

/// The values after each `key=` in the query, percent-decoded.
pub fn values(path_with_query: &str, key: &str) -> Vec<String> {
    let (_, query) = path_with_query.split_once('?').unwrap_or_default();
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(name, _)| *name == key).map(|(_, value)| decode(value)).collect()
}

fn decode(text: &str) -> String {
    let mut decoded = Vec::new();
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        let escape = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (byte, escape.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(escaped)) => {
                decoded.push(escaped);
                rest = &tail[2..];
            }
            _ => {
                decoded.push(*byte);
                rest = tail;
            }
        }
    }
    String::from_utf8(decoded).unwrap_or_default()
}

/// Outcomes in the order of their arrival. Consecutive equal outcomes are one line with their
/// number.
#[derive(Default)]
pub struct Outcomes(Vec<(String, u64)>);

impl Outcomes {
    pub fn push(&mut self, outcome: String) {
        match self.0.last_mut() {
            Some((last, count)) if *last == outcome => *count += 1,
            _ => self.0.push((outcome, 1)),
        }
    }

    pub fn text(&self) -> String {
        self.0.iter().map(|(outcome, count)| format!("{count} x {outcome}\n")).collect()
    }
}

/// The trailers of an answer, behind its outcome.
pub fn trailers(fields: Vec<(String, Vec<u8>)>) -> String {
    let shown = |(name, value): (String, Vec<u8>)| {
        format!(" {name}: {}", String::from_utf8_lossy(&value))
    };
    fields.into_iter().map(shown).collect()
}

/// `ErrorCode::InternalError(Some("..."))` becomes `InternalError`.
pub fn name(code: &impl std::fmt::Debug) -> String {
    let debug = format!("{code:?}");
    let name = debug.strip_prefix("ErrorCode::").unwrap_or(&debug);
    name.split(['(', ' ']).next().unwrap_or_default().to_owned()
}
