//! The environment variables of a CGI guest (RFC 3875, section 4.1, and those that Wagi adds), and its
//! arguments.

use std::{collections::BTreeMap, iter};

use http::{HeaderMap, header, request::Parts};

use crate::executor::request::InvocationContext;

/// The environment of one invocation.
///
/// Three layers, of which the later override the earlier: header fields, which the client chooses;
/// the variables of the function's owner; the facts of the request. So a client cannot override the
/// other two.
pub(crate) fn environment(
    request: &Parts,
    context: &InvocationContext,
    owner: &[(String, String)],
) -> Vec<(String, String)> {
    let mut variables = BTreeMap::new();
    add_headers(&mut variables, &request.headers);
    variables.extend(owner.iter().cloned());
    add_facts(&mut variables, request, context);
    variables.into_iter().collect()
}

/// In a setting, the mount.
const SCRIPT_NAME: &str = "${SCRIPT_NAME}";
/// In a setting, the parameters of the query that cannot be taken for options.
const ARGS: &str = "${ARGS}";
/// In a setting, all parameters of the query.
const ALL_ARGS: &str = "${ALL_ARGS}";

/// The arguments of one invocation: those of the function's settings, or the path and then each
/// parameter of the query.
///
/// The caller writes the query, and options are the owner's to choose: a program must not show its
/// source because the query is `-s`. So a parameter that begins with `-` is left out, unless the
/// owner asks for all.
pub(crate) fn arguments(settings: &[String], request: &Parts, mount: &str) -> Vec<String> {
    let query = request.uri.query().unwrap_or_default();
    let all = || query.split('&').filter(|part| !part.is_empty()).map(percent_decoded);
    let harmless = || all().filter(|word| !word.starts_with('-'));
    if settings.is_empty() {
        return iter::once(request.uri.path().to_owned()).chain(harmless()).collect();
    }
    let mut arguments = Vec::with_capacity(settings.len());
    for setting in settings {
        match setting.as_str() {
            ARGS => arguments.extend(harmless()),
            ALL_ARGS => arguments.extend(all()),
            text => arguments.push(expanded(text, |name| match name {
                SCRIPT_NAME => mount.to_owned(),
                ARGS => harmless().collect::<Vec<_>>().join(" "),
                _ => all().collect::<Vec<_>>().join(" "),
            })),
        }
    }
    arguments
}

/// Replaces each of the three names in `text`, and nothing in what replaces them.
fn expanded(text: &str, value: impl Fn(&str) -> String) -> String {
    let (mut done, mut rest) = (String::new(), text);
    while let Some(start) = rest.find("${") {
        let (before, from) = rest.split_at(start);
        done.push_str(before);
        let name = [SCRIPT_NAME, ARGS, ALL_ARGS].into_iter().find(|name| from.starts_with(name));
        let length = match name {
            Some(name) => {
                done.push_str(&value(name));
                name.len()
            }
            None => {
                done.push_str("${");
                2
            }
        };
        rest = &from[length..];
    }
    done + rest
}

fn add_headers(variables: &mut BTreeMap<String, String>, headers: &HeaderMap) {
    for name in headers.keys() {
        // Many programs use HTTP_PROXY as the proxy for their own requests ("httpoxy").
        if name == header::CONNECTION || name == "proxy" {
            continue;
        }
        let separator = if name == header::COOKIE { "; " } else { ", " };
        let values = headers.get_all(name).iter();
        let value = values
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect::<Vec<_>>()
            .join(separator);
        // `x-a` and `x_a` become the same variable. The field with the hyphen wins.
        let key = format!("HTTP_{}", name.as_str().to_ascii_uppercase().replace('-', "_"));
        if name.as_str().contains('_') && variables.contains_key(&key) {
            continue;
        }
        variables.insert(key, value);
    }
}

fn add_facts(
    variables: &mut BTreeMap<String, String>,
    request: &Parts,
    context: &InvocationContext,
) {
    let text = |name: header::HeaderName| {
        let value = request.headers.get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let authority = request
        .uri
        .authority()
        .map(ToString::to_string)
        .or_else(|| text(header::HOST))
        .unwrap_or_default();
    let (scheme, default_port) = if context.https { ("https", "443") } else { ("http", "80") };
    let (name, port) = split_port(&authority, default_port);
    let path = request.uri.path();
    let decoded = percent_decoded(path);
    let query = request.uri.query().unwrap_or_default();
    let separator = if query.is_empty() { "" } else { "?" };
    let full_url = format!("{scheme}://{authority}{}{path}{separator}{query}", context.mount);
    let address = context.peer.ip().to_string();
    let facts = [
        ("GATEWAY_INTERFACE", "CGI/1.1".to_owned()),
        ("SERVER_SOFTWARE", concat!("mayfly/", env!("CARGO_PKG_VERSION")).to_owned()),
        ("SERVER_PROTOCOL", format!("{:?}", request.version)),
        ("SERVER_NAME", name.to_owned()),
        ("SERVER_PORT", port.to_owned()),
        ("REQUEST_METHOD", request.method.to_string()),
        ("SCRIPT_NAME", context.mount.to_string()),
        ("PATH_TRANSLATED", decoded.clone()),
        ("PATH_INFO", decoded),
        ("X_RAW_PATH_INFO", path.to_owned()),
        ("X_MATCHED_ROUTE", format!("{}/...", context.mount)),
        ("X_FULL_URL", full_url),
        ("QUERY_STRING", query.to_owned()),
        ("REMOTE_HOST", address.clone()),
        ("REMOTE_ADDR", address),
        ("REMOTE_PORT", context.peer.port().to_string()),
        ("CONTENT_TYPE", text(header::CONTENT_TYPE).unwrap_or_default()),
        ("CONTENT_LENGTH", text(header::CONTENT_LENGTH).unwrap_or_default()),
        ("AUTH_TYPE", String::new()),
        ("REMOTE_USER", String::new()),
    ];
    variables.extend(facts.map(|(name, value)| (name.to_owned(), value)));
    // A convention of servers before CGI was written down: programs look at whether it is there.
    if context.https {
        variables.insert("HTTPS".to_owned(), "on".to_owned());
    }
    // HTTP/2 has it in the address alone.
    variables.entry("HTTP_HOST".to_owned()).or_insert(authority);
}

/// `[::1]:80` → `[::1]` and `80`.
fn split_port<'a>(authority: &'a str, default: &'a str) -> (&'a str, &'a str) {
    match authority.rsplit_once(':') {
        Some((name, "")) => (name, default),
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, port),
        _ => (authority, default),
    }
}

/// Decodes `%41`. Invalid escapes stay as they are, and so does a text that would not be UTF-8.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        match (first, tail) {
            (b'%', [high, low, after @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                let digit = |byte: &u8| (*byte as char).to_digit(16).unwrap_or_default() as u8;
                bytes.push(digit(high) << 4 | digit(low));
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(
        request: http::request::Builder,
        owner: &[(&str, &str)],
    ) -> BTreeMap<String, String> {
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let context = InvocationContext {
            invocation: 1,
            peer: ([192, 0, 2, 1], 5).into(),
            https: false,
            mount: "/f/hello".into(),
            cdn_loop: None,
            others: 0,
            timeout: None,
        };
        let owner: Vec<_> =
            owner.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        environment(&parts, &context, &owner).into_iter().collect()
    }

    #[test]
    fn the_request_is_told_in_variables() {
        let request = http::Request::post("/a%20b/c?x=1&y=2")
            .header("host", "example.com:8080")
            .header("content-type", "text/plain")
            .header("x-a", "1")
            .header("x-a", "2");
        let variables = variables(request, &[]);
        for (name, value) in [
            ("REQUEST_METHOD", "POST"),
            ("SCRIPT_NAME", "/f/hello"),
            ("PATH_INFO", "/a b/c"),
            ("X_RAW_PATH_INFO", "/a%20b/c"),
            ("QUERY_STRING", "x=1&y=2"),
            ("SERVER_NAME", "example.com"),
            ("SERVER_PORT", "8080"),
            ("REMOTE_ADDR", "192.0.2.1"),
            ("CONTENT_TYPE", "text/plain"),
            ("HTTP_X_A", "1, 2"),
            ("X_FULL_URL", "http://example.com:8080/f/hello/a%20b/c?x=1&y=2"),
        ] {
            assert_eq!(variables.get(name).map(String::as_str), Some(value), "{name}");
        }
    }

    #[test]
    fn a_client_overrides_neither_the_owner_nor_the_facts() {
        let request = http::Request::get("/").header("proxy", "evil").header("mode", "client");
        let variables = variables(request, &[("HTTP_MODE", "owner"), ("REQUEST_METHOD", "owner")]);
        assert_eq!(variables["HTTP_MODE"], "owner");
        assert_eq!(variables["REQUEST_METHOD"], "GET");
        assert!(!variables.contains_key("HTTP_PROXY"));
    }

    fn arguments_of(settings: &[&str], target: &str) -> Vec<String> {
        let (parts, ()) = http::Request::get(target).body(()).unwrap().into_parts();
        let settings: Vec<_> = settings.iter().map(ToString::to_string).collect();
        arguments(&settings, &parts, "/f/hello")
    }

    #[test]
    fn arguments_are_the_path_and_the_parameters() {
        assert_eq!(arguments_of(&[], "/p?a=1&b%20c&&"), ["/p", "a=1", "b c"]);
    }

    #[test]
    fn no_parameter_becomes_an_option() {
        let target = "/p?-s&a&%2ds&--%20x&b=-1&-";
        assert_eq!(arguments_of(&[], target), ["/p", "a", "b=-1"]);
        assert_eq!(arguments_of(&["php", "${ARGS}"], target), ["php", "a", "b=-1"]);
        assert_eq!(arguments_of(&["php", "x ${ARGS}"], target), ["php", "x a b=-1"]);
    }

    #[test]
    fn a_function_may_ask_for_options_of_the_caller() {
        assert_eq!(arguments_of(&["ls", "${ALL_ARGS}"], "/?-l&x"), ["ls", "-l", "x"]);
    }

    #[test]
    fn settings_replace_the_arguments_and_name_two_facts_of_the_request() {
        let settings = ["python", "-c", "s = '${SCRIPT_NAME}'; ${x}", "${SCRIPT_NAME}", "${ARGS}"];
        assert_eq!(
            arguments_of(&settings, "/p?a&${SCRIPT_NAME}"),
            ["python", "-c", "s = '/f/hello'; ${x}", "/f/hello", "a", "${SCRIPT_NAME}"]
        );
        assert_eq!(arguments_of(&["a", "${ARGS}", "b"], "/p"), ["a", "b"]);
        assert_eq!(arguments_of(&["${ARGS}|$${ALL_ARGS}$"], "/?x&-y"), ["x|$x -y$"]);
    }

    #[test]
    fn escapes_that_are_none_stay() {
        assert_eq!(percent_decoded("%41%zz%4"), "A%zz%4");
        assert_eq!(percent_decoded("%ff"), "%ff");
    }
}
