//! Problems of requests to the routes of owners.

use http::{HeaderName, HeaderValue, header};

use crate::{
    functions::routes::auth::{AuthRefusal, AuthRules, Challenge},
    problem::{Problem, table},
};

/// Seconds after which the keys of an issuer may be asked for again, by default.
const ISSUER_RETRY_S: u32 = 60;

/// A caller that a route does not let through.
pub(super) fn refused(route: &HeaderValue, rules: &AuthRules, refusal: AuthRefusal) -> Problem {
    let name = route.to_str().unwrap_or_default();
    match refusal {
        AuthRefusal::Nothing | AuthRefusal::Wrong(_) if rules.has_only_keys() => {
            no_key(name, rules)
        }
        AuthRefusal::Nothing => {
            let detail = format!("the route {name:?} takes requests of callers that it knows");
            unknown(name, rules, None).detail(detail)
        }
        AuthRefusal::Wrong(why) => unknown(name, rules, None).detail(why),
        AuthRefusal::Token(fault) => {
            let problem = unknown(name, rules, Some(fault.0));
            problem.detail(format!("the token is not valid: {}", fault.0))
        }
        AuthRefusal::NotAllowed(missing) => {
            let problem = Problem::new(&table::NOT_PERMITTED)
                .detail(format!("the token lacks {missing}"))
                .hint("Ask the issuer for a token that has it.");
            let scope = rules.challenges().find_map(|challenge| match challenge {
                Challenge::Bearer { scope } => Some(scope),
                _ => None,
            });
            let scope = scope.unwrap_or_default();
            challenged(
                problem,
                &format!(
                    "Bearer realm=\"{name}\", error=\"insufficient_scope\", scope=\"{scope}\""
                ),
            )
        }
        AuthRefusal::KeysUnavailable => Problem::new(&table::ISSUER_UNAVAILABLE)
            .detail(format!(
                "the keys of the issuer that the route {name:?} names cannot be fetched"
            ))
            .hint("Try again later. The owner checks `jwt.issuer` and `jwt.jwks_url` of the route.")
            .retry_after(ISSUER_RETRY_S),
        AuthRefusal::Busy(why) => Problem::new(&table::AUTHENTICATION_BUSY)
            .detail(why)
            .hint("Try again later.")
            .retry_after(1),
    }
}

/// The caller is not known. `fault` is what is wrong with its token.
fn unknown(name: &str, rules: &AuthRules, fault: Option<&str>) -> Problem {
    let problem = Problem::new(&table::AUTHENTICATION_REQUIRED).hint(hint(rules));
    rules.challenges().fold(problem, |problem, challenge| {
        let text = match challenge {
            Challenge::ApiKey(field) => key_scheme(&field).to_owned(),
            Challenge::Basic { realm } => format!("Basic realm=\"{realm}\", charset=\"UTF-8\""),
            Challenge::Bearer { .. } => match fault {
                // RFC 6750, section 3.1.
                Some(fault) => format!(
                    "Bearer realm=\"{name}\", error=\"invalid_token\", error_description=\"{fault}\""
                ),
                None => format!("Bearer realm=\"{name}\""),
            },
            Challenge::Signature { header } => format!("HMAC-SHA256 header=\"{header}\""),
        };
        challenged(problem, &text)
    })
}

fn challenged(problem: Problem, challenge: &str) -> Problem {
    match HeaderValue::from_str(challenge) {
        Ok(challenge) => problem.challenge(challenge),
        Err(_) => problem,
    }
}

/// What a caller can send.
fn hint(rules: &AuthRules) -> String {
    let ways = rules.challenges().map(|challenge| match challenge {
        Challenge::ApiKey(field) => format!("a key in the header `{field}`"),
        Challenge::Basic { .. } => "a user and its password (`authorization: Basic`)".to_owned(),
        Challenge::Bearer { .. } => "a token (`authorization: Bearer`)".to_owned(),
        Challenge::Signature { header } => format!("a signature in the header `{header}`"),
    });
    format!("Send {}.", ways.collect::<Vec<_>>().join(", or "))
}

fn no_key(name: &str, rules: &AuthRules) -> Problem {
    let field = rules.challenges().find_map(|challenge| match challenge {
        Challenge::ApiKey(field) => Some(field),
        _ => None,
    });
    let field = field.unwrap_or(header::AUTHORIZATION);
    Problem::new(&table::API_KEY_REQUIRED)
        .detail(format!("the route {name:?} takes requests with one of its API keys only"))
        .hint(format!("Send one key in the header `{field}`."))
        .field(header::WWW_AUTHENTICATE, HeaderValue::from_static(key_scheme(&field)))
}

fn key_scheme(field: &HeaderName) -> &'static str {
    if *field == header::AUTHORIZATION { "Bearer" } else { "ApiKey" }
}

impl Problem {
    /// A route leads to nothing any more.
    pub(in crate::edge) fn route_without_target(name: &HeaderValue, problem: Self) -> Self {
        let name = name.to_str().unwrap_or_default();
        problem.hint(format!("The route {name:?} names it: correct or delete the route."))
    }

    /// A limit of a route may be the cause.
    pub(in crate::edge) fn of_route(self, name: &HeaderValue) -> Self {
        let name = name.to_str().unwrap_or_default();
        let member = if self.is(&table::REQUEST_TOO_LARGE) {
            "request_bytes"
        } else if self.is(&table::TIMEOUT) || self.is(&table::LOAD_TIMEOUT) {
            "timeout_ms"
        } else {
            return self;
        };
        self.hint(format!(
            "The owner can raise `{member}` of the route {name:?}, and the function's setting of the \
             same name."
        ))
    }
}
