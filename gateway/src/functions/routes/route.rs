//! A route as it is applied, and whether it can be.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use gateway_api::RouteSpec;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

use crate::{
    functions::{
        channels::is_channel_name,
        name::is_name,
        routes::{
            auth::AuthRules,
            coding::{Coding, codings},
            cors::Cors,
            fields::{FieldChanges, changes, fields, methods},
            path::PathPattern,
            rate::RateLimit,
        },
    },
    request::canonical::canonical_host,
};

/// Bytes of an address. It must fit into a header that common servers accept.
const LOCATION_BYTES: usize = 4 << 10;
/// Bytes of the body of an answer. All routes are kept in memory.
const BODY_BYTES: usize = 16 << 10;
/// Bytes of a route's document: its values are kept in memory.
const DOCUMENT_BYTES: usize = 64 << 10;
/// Bounds of an owner's choice; the function's own limits hold besides.
const TIMEOUT_MS: u64 = 3_600_000;
const REQUEST_BYTES: u64 = 1 << 40;

/// A route.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) name: HeaderValue,
    pub(crate) host: RouteHost,
    pub(crate) path: PathPattern,
    methods: Vec<Method>,
    /// Fields with the value that they must have, if not any.
    headers: Vec<(HeaderName, Option<HeaderValue>)>,
    priority: i32,
    pub(crate) action: RouteAction,
    /// The fields of the request that say what the named segments of the path stand for.
    pub(crate) parameters: Vec<HeaderName>,
    pub(crate) request_headers: FieldChanges,
    pub(crate) response_headers: FieldChanges,
    pub(crate) cors: Option<Cors>,
    pub(crate) auth: Option<Box<AuthRules>>,
    pub(crate) rate: Option<RateLimit>,
    /// The codings that responses may have; without any, they stay as they are.
    pub(crate) compression: Vec<Coding>,
    /// The time for a call, if it is less than the function's.
    pub(crate) timeout: Option<Duration>,
    /// The bytes of a body, if they are less than the function's.
    pub(crate) request_bytes: Option<u64>,
}

/// The parts of a request that a route depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// In the canonical form.
    pub(crate) path: &'a str,
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
}

/// The hosts of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RouteHost {
    Any,
    Host(String),
    /// All hosts that end with this, which begins with a dot.
    Below(String),
}

/// What happens to a request.
#[derive(Debug)]
pub(crate) enum RouteAction {
    Call {
        function: String,
        channel: Option<String>,
        /// The part of the path that the function does not see, if any, also as a header field.
        mount: Option<(Arc<str>, HeaderValue)>,
    },
    /// Runs a flow. Whether there is one is not known here.
    Flow {
        flow: String,
        /// The part of the path that its first step does not see, as above.
        mount: Option<(Arc<str>, HeaderValue)>,
    },
    Redirect {
        status: StatusCode,
        location: Vec<LocationPart>,
    },
    Answer {
        status: StatusCode,
        headers: HeaderMap,
        body: Bytes,
    },
}

/// A part of the address of a redirect.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LocationPart {
    Text(String),
    /// What a named segment stands for, by its place among them.
    Parameter(usize),
}

impl Route {
    /// Checks what an owner asks for. An error says what is wrong, and names the member.
    pub(crate) fn new(name: &str, spec: &RouteSpec) -> Result<Self, String> {
        if !is_name(name) {
            return Err(format!(
                "{name:?} cannot be the name of a route: that is like a function's"
            ));
        }
        let bytes = serde_json::to_vec(spec).map_or(usize::MAX, |json| json.len());
        if bytes > DOCUMENT_BYTES {
            return Err(format!("it has {bytes} bytes; at most {DOCUMENT_BYTES} are allowed"));
        }
        let path = PathPattern::parse(&spec.path).map_err(|why| format!("path: {why}"))?;
        if !(-1_000..=1_000).contains(&spec.priority) {
            return Err("priority: from -1,000 to 1,000 are allowed".to_owned());
        }
        let methods = methods("methods", &spec.methods)?;
        let cors = spec.cors.as_ref().map(|cors| Cors::new(cors, &methods)).transpose()?;
        let auth = AuthRules::new(name, spec)?;
        let rate = spec.rate.as_ref().map(|rate| RateLimit::new(rate, auth.is_some()));
        let parameter = |name: &str| HeaderName::try_from(format!("mayfly-param-{name}"));
        Ok(Self {
            name: HeaderValue::try_from(name).map_err(|error| error.to_string())?,
            host: host(spec.host.as_deref()).map_err(|why| format!("host: {why}"))?,
            methods,
            headers: conditions(&spec.headers)?,
            priority: spec.priority,
            action: action(spec, &path)?,
            parameters: path
                .names()
                .map(parameter)
                .collect::<Result<_, _>>()
                .map_err(|error| format!("path: {error}"))?,
            request_headers: changes("request_headers", &spec.request_headers)?,
            response_headers: changes("response_headers", &spec.response_headers)?,
            cors,
            auth,
            rate: rate.transpose()?,
            compression: codings(spec.compression.as_ref())?,
            timeout: timeout(spec)?,
            request_bytes: request_bytes(spec)?,
            path,
        })
    }

    /// The order in which routes with the same host and path are tried.
    pub(crate) fn rank(&self) -> (Reverse<i32>, Reverse<usize>) {
        (
            Reverse(self.priority),
            Reverse(self.headers.len() + usize::from(!self.methods.is_empty())),
        )
    }

    /// Whether it would not be clear which of both takes a request.
    pub(crate) fn conflicts_with(&self, other: &Self) -> bool {
        let share_method = self.methods.is_empty()
            || other.methods.is_empty()
            || self.methods.iter().any(|method| other.methods.contains(method));
        // Two values of one field exclude each other.
        let exclude = self.headers.iter().any(|(name, value)| {
            let same = other.headers.iter().find(|(theirs, _)| theirs == name);
            same.is_some_and(|(_, theirs)| value.is_some() && theirs.is_some() && value != theirs)
        });
        self.rank() == other.rank()
            && self.host == other.host
            && self.path.is_like(&other.path)
            && share_method
            && !exclude
    }

    /// Whether a request to its host and path meets its conditions. A preflight request counts as
    /// the one that it asks about.
    pub(crate) fn takes(&self, asked: Asked<'_>) -> bool {
        let has_method = self.methods.is_empty()
            || self.methods.contains(asked.method)
            || self.cors.as_ref().is_some_and(|_| Cors::is_preflight(asked.method, asked.headers));
        has_method
            && self.headers.iter().all(|(name, wanted)| {
                let mut values = asked.headers.get_all(name).iter();
                values.any(|value| wanted.as_ref().is_none_or(|wanted| value == wanted))
            })
    }

    /// Where what `*` stands for begins in a path that matches.
    pub(crate) fn rest_at(&self, path: &str) -> Option<usize> {
        self.path.rest_at(path)
    }
}

fn host(host: Option<&str>) -> Result<RouteHost, String> {
    let Some(text) = host else { return Ok(RouteHost::Any) };
    let (below, name) = text.strip_prefix("*.").map_or((false, text), |name| (true, name));
    let canonical = canonical_host(name)?;
    if canonical.name != name || name.is_empty() {
        return Err(
            "write it in lower case, without a port and without a dot at its end".to_owned()
        );
    }
    if name == "localhost" || name.ends_with(".localhost") {
        return Err(
            "`localhost` and the hosts below it are the functions' own addresses".to_owned()
        );
    }
    Ok(if below { RouteHost::Below(format!(".{name}")) } else { RouteHost::Host(name.into()) })
}

fn conditions(
    wanted: &BTreeMap<String, String>,
) -> Result<Vec<(HeaderName, Option<HeaderValue>)>, String> {
    let wanted = fields("headers", wanted)?.into_iter();
    Ok(wanted.map(|(name, value)| (name, (value != "*").then_some(value))).collect())
}

fn timeout(spec: &RouteSpec) -> Result<Option<Duration>, String> {
    match spec.timeout_ms {
        Some(ms) if !(1..=TIMEOUT_MS).contains(&ms) => {
            Err(format!("timeout_ms: from 1 to {TIMEOUT_MS} are allowed"))
        }
        ms => Ok(ms.map(Duration::from_millis)),
    }
}

fn request_bytes(spec: &RouteSpec) -> Result<Option<u64>, String> {
    match spec.request_bytes {
        Some(bytes) if bytes > REQUEST_BYTES => {
            Err(format!("request_bytes: at most {REQUEST_BYTES} are allowed"))
        }
        bytes => Ok(bytes),
    }
}

fn action(spec: &RouteSpec, path: &PathPattern) -> Result<RouteAction, String> {
    let given = [
        spec.function.is_some(),
        spec.flow.is_some(),
        spec.redirect.is_some(),
        spec.answer.is_some(),
    ];
    if given.iter().filter(|given| **given).count() != 1 {
        return Err("give exactly one of `function`, `flow`, `redirect` and `answer`".to_owned());
    }
    if spec.function.is_none() && spec.channel.is_some() {
        return Err("`channel` goes with `function`".to_owned());
    }
    if spec.function.is_none() && spec.flow.is_none() && spec.strip {
        return Err("`strip` goes with `function` and `flow`".to_owned());
    }
    if let Some(redirect) = &spec.redirect {
        let status = match redirect.status {
            301 | 302 | 303 | 307 | 308 => StatusCode::from_u16(redirect.status),
            _ => return Err("redirect.status: 301, 302, 303, 307 or 308 is allowed".to_owned()),
        };
        let location = location(&redirect.location, path)
            .map_err(|why| format!("redirect.location: {why}"))?;
        return Ok(RouteAction::Redirect { status: status.map_err(|e| e.to_string())?, location });
    }
    if let Some(answer) = &spec.answer {
        let status = StatusCode::from_u16(answer.status).ok();
        let status = status.filter(|status| (200..600).contains(&status.as_u16()));
        if answer.body.len() > BODY_BYTES {
            return Err(format!("answer.body: at most {BODY_BYTES} bytes are allowed"));
        }
        return Ok(RouteAction::Answer {
            status: status.ok_or("answer.status: from 200 to 599 are allowed")?,
            headers: fields("answer.headers", &answer.headers)?.into_iter().collect(),
            body: Bytes::from(answer.body.clone()),
        });
    }
    let mount = path.fixed_beginning();
    let field = HeaderValue::try_from(&mount).map_err(|error| format!("path: {error}"))?;
    let mount = (spec.strip && !mount.is_empty()).then(|| (mount.into(), field));
    if let Some(flow) = &spec.flow {
        if !is_name(flow) {
            return Err(format!("flow: {flow:?} is not the name of a flow"));
        }
        return Ok(RouteAction::Flow { flow: flow.clone(), mount });
    }
    let function = spec.function.clone().unwrap_or_default();
    if !is_name(&function) {
        return Err(format!("function: {function:?} is not the name of a function"));
    }
    if let Some(channel) = spec.channel.as_deref().filter(|channel| !is_channel_name(channel)) {
        return Err(format!("channel: {channel:?} is not the name of a channel"));
    }
    Ok(RouteAction::Call { function, channel: spec.channel.clone(), mount })
}

/// Reads the address of a redirect. A named segment cannot be part of its scheme and host, so that no
/// client chooses where it leads.
fn location(text: &str, path: &PathPattern) -> Result<Vec<LocationPart>, String> {
    if text.len() > LOCATION_BYTES {
        return Err(format!("at most {LOCATION_BYTES} bytes are allowed"));
    }
    let names: Vec<_> = path.names().collect();
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').ok_or("a `{` has no `}`")?;
        let place = names.iter().position(|known| *known == name);
        let place = place.ok_or_else(|| format!("the path has no segment named {name:?}"))?;
        parts.push(LocationPart::Text(before.to_owned()));
        parts.push(LocationPart::Parameter(place));
        rest = after;
    }
    parts.push(LocationPart::Text(rest.to_owned()));
    let fixed = match &parts[0] {
        LocationPart::Text(text) => &**text,
        LocationPart::Parameter(_) => "",
    };
    let after_host = match fixed.strip_prefix("https://").or(fixed.strip_prefix("http://")) {
        Some(address) => address.find('/').is_some_and(|slash| slash > 0),
        None => fixed.starts_with('/') && !fixed.starts_with("//"),
    };
    let sample: String = parts.iter().map(LocationPart::sample).collect();
    if (after_host || parts.len() == 1) && sample.parse::<Uri>().is_ok_and(|uri| has_place(&uri)) {
        Ok(parts)
    } else {
        Err("it is a path that begins with one `/`, or an address with `http://` or `https://`, its \
             host and a path"
            .to_owned())
    }
}

fn has_place(uri: &Uri) -> bool {
    match uri.scheme_str() {
        Some(scheme) => matches!(scheme, "http" | "https") && uri.host().is_some(),
        None => {
            uri.host().is_none() && uri.path().starts_with('/') && !uri.path().starts_with("//")
        }
    }
}

impl LocationPart {
    fn sample(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Parameter(_) => "x",
        }
    }
}
