//! Methods and header fields as owners name them in routes.

use std::collections::BTreeMap;

use gateway_api::HeaderRules;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::request::forwarded::OWN_PREFIX;

/// Methods, conditions or rules of one kind. Arbitrary, large enough.
const ENTRIES: usize = 32;
/// Bytes of a value. It must fit into a header that common servers accept.
const VALUE_BYTES: usize = 4 << 10;
/// Header fields that make up the message, not its meaning: the gateway sets them itself.
const FRAMING: [&str; 9] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Changes of header fields.
#[derive(Debug, Default)]
pub(crate) struct FieldChanges {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
}

impl FieldChanges {
    /// Makes the changes.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name.clone(), value.clone());
        }
    }
}

/// Methods by their names.
pub(crate) fn methods(member: &str, names: &[String]) -> Result<Vec<Method>, String> {
    if names.len() > ENTRIES {
        return Err(format!("{member}: at most {ENTRIES} are allowed"));
    }
    let method = |name: &String| match Method::from_bytes(name.as_bytes()) {
        Ok(method) if method != Method::CONNECT && method != Method::TRACE => Ok(method),
        _ => Err(format!("{member}: {name:?} is not a method that functions can have")),
    };
    names.iter().map(method).collect()
}

/// Checks what an owner asks for. An error says what is wrong, and names the member.
pub(crate) fn changes(member: &str, rules: &HeaderRules) -> Result<FieldChanges, String> {
    if rules.remove.len() > ENTRIES {
        return Err(format!("{member}.remove: at most {ENTRIES} are allowed"));
    }
    let remove = rules.remove.iter().map(|name| field_name(&format!("{member}.remove"), name));
    Ok(FieldChanges {
        remove: remove.collect::<Result<_, _>>()?,
        set: fields(&format!("{member}.set"), &rules.set)?,
    })
}

/// Header fields that owners may set.
pub(crate) fn fields(
    member: &str,
    fields: &BTreeMap<String, String>,
) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    if fields.len() > ENTRIES {
        return Err(format!("{member}: at most {ENTRIES} are allowed"));
    }
    let field = |(name, value): (&String, &String)| {
        let name = field_name(member, name)?;
        let bad = || format!("{member}: {value:?} cannot be the value of a header field");
        match HeaderValue::try_from(value) {
            Ok(value) if value.len() <= VALUE_BYTES => Ok((name, value)),
            _ => Err(bad()),
        }
    };
    fields.iter().map(field).collect()
}

/// The name of a header field that owners may name.
pub(crate) fn field_name(member: &str, name: &str) -> Result<HeaderName, String> {
    let read = HeaderName::try_from(name)
        .map_err(|_| format!("{member}: {name:?} cannot be the name of a header field"))?;
    if FRAMING.contains(&read.as_str()) || read.as_str().starts_with(OWN_PREFIX) {
        return Err(format!("{member}: only the gateway sets the header field {name:?}"));
    }
    Ok(read)
}
