//! What pages of other origins may do with a route: the Fetch standard, section 3.3.

use gateway_api::CorsView;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::functions::routes::fields::{field_name, methods};

/// Origins, methods or header fields. Arbitrary, large enough.
const ENTRIES: usize = 64;
/// A day.
const MAX_AGE_S: u32 = 86_400;

/// The rules of a route.
#[derive(Debug)]
pub(crate) struct Cors {
    /// `None` for every origin.
    origins: Option<Vec<HeaderValue>>,
    methods: HeaderValue,
    headers: Option<HeaderValue>,
    expose: Option<HeaderValue>,
    credentials: bool,
    max_age: HeaderValue,
}

impl Cors {
    /// Checks what an owner asks for. An error says what is wrong, and names the member.
    pub(crate) fn new(cors: &CorsView, of_route: &[Method]) -> Result<Self, String> {
        let lists = [&cors.origins, &cors.headers, &cors.expose];
        if lists.iter().any(|list| list.len() > ENTRIES) || cors.origins.is_empty() {
            return Err(format!("cors: 1 to {ENTRIES} origins, and as many fields, are allowed"));
        }
        let every = cors.origins.iter().any(|origin| origin == "*");
        if every && (cors.credentials || cors.origins.len() > 1) {
            return Err("cors.origins: `*` stands alone, and not with `credentials`".to_owned());
        }
        if cors.max_age_s > MAX_AGE_S {
            return Err(format!("cors.max_age_s: at most {MAX_AGE_S} are allowed"));
        }
        let origins = cors.origins.iter().map(|origin| checked_origin(origin));
        let asked = methods("cors.methods", &cors.methods)?;
        let methods = match (asked.is_empty(), of_route.is_empty()) {
            (false, _) => asked,
            (true, false) => of_route.to_vec(),
            (true, true) => vec![Method::GET, Method::HEAD, Method::POST],
        };
        let methods: Vec<_> = methods.iter().map(Method::as_str).collect();
        Ok(Self {
            origins: if every { None } else { Some(origins.collect::<Result<_, _>>()?) },
            methods: list("cors.methods", &methods)?,
            headers: fields("cors.headers", &cors.headers)?,
            expose: fields("cors.expose", &cors.expose)?,
            credentials: cors.credentials,
            max_age: HeaderValue::from(cors.max_age_s),
        })
    }

    /// Whether a browser asks beforehand whether it may send another request.
    pub(crate) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
        *method == Method::OPTIONS
            && headers.contains_key(header::ORIGIN)
            && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
    }

    /// Adds what the response to a preflight request from this origin says.
    pub(crate) fn answer_preflight(&self, origin: Option<&HeaderValue>, to: &mut HeaderMap) {
        if self.allow(origin, to) {
            to.insert(header::ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
            to.insert(header::ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
            if let Some(headers) = &self.headers {
                to.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, headers.clone());
            }
        }
    }

    /// Adds what other responses to requests from this origin say.
    pub(crate) fn answer(&self, origin: Option<&HeaderValue>, to: &mut HeaderMap) {
        if self.allow(origin, to)
            && let Some(expose) = &self.expose
        {
            to.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }

    /// Says whether this origin may read the response, and that the response depends on it. What the
    /// function says about it does not count.
    fn allow(&self, origin: Option<&HeaderValue>, to: &mut HeaderMap) -> bool {
        to.remove(header::ACCESS_CONTROL_ALLOW_ORIGIN);
        to.remove(header::ACCESS_CONTROL_ALLOW_CREDENTIALS);
        let allowed = match &self.origins {
            None => Some(HeaderValue::from_static("*")),
            Some(origins) => {
                to.append(header::VARY, HeaderValue::from_static("origin"));
                origin.filter(|origin| origins.contains(origin)).cloned()
            }
        };
        let Some(allowed) = allowed else { return false };
        to.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.credentials {
            let yes = HeaderValue::from_static("true");
            to.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
        true
    }
}

/// An origin as browsers write it: scheme, host, and port if it is not the usual one.
fn checked_origin(origin: &str) -> Result<HeaderValue, String> {
    let wrong =
        || format!("cors.origins: {origin:?} is not an origin such as `https://app.example.com`");
    let uri: http::Uri = origin.parse().map_err(|_| wrong())?;
    let authority = uri.authority().ok_or_else(wrong)?;
    let usual = format!("{}://{authority}", uri.scheme_str().ok_or_else(wrong)?);
    if usual == origin && !origin.contains('@') && !origin.bytes().any(|b| b.is_ascii_uppercase()) {
        HeaderValue::try_from(origin).map_err(|_| wrong())
    } else {
        Err(wrong())
    }
}

fn fields(member: &str, names: &[String]) -> Result<Option<HeaderValue>, String> {
    if names.is_empty() {
        return Ok(None);
    }
    let names: Vec<HeaderName> =
        names.iter().map(|name| field_name(member, name)).collect::<Result<_, _>>()?;
    let names: Vec<_> = names.iter().map(HeaderName::as_str).collect();
    list(member, &names).map(Some)
}

fn list(member: &str, items: &[&str]) -> Result<HeaderValue, String> {
    HeaderValue::try_from(items.join(", ")).map_err(|error| format!("{member}: {error}"))
}
