//! Entity tags and preconditions in HTTP's form (RFC 9110, 8.8.3 and 13.1).

use http::{HeaderMap, HeaderName, header};

use crate::functions::deploy::change_condition::{ChangeCondition, StateTag, States};

/// A function's state as an entity tag.
pub(crate) fn entity_tag(state: StateTag) -> String {
    format!("\"{}-{}\"", state.function, state.version)
}

/// The precondition that `if-match` and `if-none-match` express.
pub(crate) fn parse(headers: &HeaderMap) -> ChangeCondition {
    ChangeCondition {
        required: states(headers, &header::IF_MATCH, state),
        excluded: states(headers, &header::IF_NONE_MATCH, weak_state),
    }
}

/// The states that a header lists. A tag that no state has is left out.
fn states(
    headers: &HeaderMap,
    name: &HeaderName,
    state: impl Fn(&str) -> Option<StateTag>,
) -> Option<States> {
    headers.contains_key(name).then(|| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        let tags: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
        if tags.contains(&"*") {
            States::Any
        } else {
            States::Listed(tags.into_iter().filter_map(state).collect())
        }
    })
}

/// The state of a tag, weak or strong: `if-none-match` compares them alike, and `if-match` does not
/// (RFC 9110, section 8.8.3.2).
fn weak_state(tag: &str) -> Option<StateTag> {
    state(tag.strip_prefix("W/").unwrap_or(tag))
}

fn state(tag: &str) -> Option<StateTag> {
    let (function, version) = tag.strip_prefix('"')?.strip_suffix('"')?.split_once('-')?;
    let state = StateTag { function: function.parse().ok()?, version: version.parse().ok()? };
    // Entity tags are compared character by character: `"01-2"` is not `"1-2"`.
    (entity_tag(state) == tag).then_some(state)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn if_match(values: &[&'static str]) -> Option<States> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::IF_MATCH, HeaderValue::from_static(value));
        }
        parse(&headers).required
    }

    #[test]
    fn a_state_is_read_back_from_its_entity_tag() {
        let tag = StateTag { function: 7, version: 2 };
        assert_eq!(entity_tag(tag), "\"7-2\"");
        assert_eq!(state("\"7-2\""), Some(tag));
    }

    #[test]
    fn tags_of_several_header_lines_are_one_list() {
        let tag = |function, version| StateTag { function, version };
        let listed = States::Listed(vec![tag(1, 2), tag(3, 4), tag(5, 6)]);
        assert_eq!(if_match(&["\"1-2\", \"3-4\"", "\"5-6\""]), Some(listed));
        assert_eq!(if_match(&["\"1-2\", *"]), Some(States::Any));
        assert_eq!(if_match(&[]), None);
    }

    #[test]
    fn a_tag_that_no_state_has_matches_none() {
        for tag in ["", "1-2", "W/\"1-2\"", "\"01-2\"", "\"+1-2\"", "\"1-2.3\"", "\"x\""] {
            assert_eq!(state(tag), None, "{tag}");
        }
        assert_eq!(if_match(&["W/\"1-2\""]), Some(States::Listed(Vec::new())));
    }

    #[test]
    fn if_none_match_compares_weak_tags_too() {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("W/\"1-2\", w/\"3-4\""));
        let one = StateTag { function: 1, version: 2 };
        assert_eq!(parse(&headers).excluded, Some(States::Listed(vec![one])));
    }
}
