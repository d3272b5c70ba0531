//! Versions and labels of revisions: which are valid?

use std::collections::BTreeMap;

use semver::Version;

/// Labels of one revision. Arbitrary, large enough.
const LABELS: usize = 32;
/// Bytes of a label's name, as for a DNS label.
const NAME_BYTES: usize = 63;
/// Bytes of a label's value. Arbitrary, enough for an address.
const VALUE_BYTES: usize = 512;
/// Bytes of a version. Arbitrary, large enough.
const VERSION_BYTES: usize = 128;

/// A semantic version in its one form, or what is wrong with the text.
pub(crate) fn version(text: &str) -> Result<String, String> {
    if text.len() > VERSION_BYTES {
        return Err(format!("a version has at most {VERSION_BYTES} bytes"));
    }
    match Version::parse(text) {
        Ok(version) => Ok(version.to_string()),
        Err(error) => Err(format!("{text:?} is no semantic version like 1.2.3: {error}")),
    }
}

/// Says what is wrong with labels.
pub(crate) fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), String> {
    if labels.len() > LABELS {
        return Err(format!("a revision has at most {LABELS} labels"));
    }
    for (name, value) in labels {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
        if name.is_empty() || name.len() > NAME_BYTES || !name.bytes().all(valid) {
            return Err(format!(
                "the name {name:?} must have 1 to {NAME_BYTES} letters, digits, `.`, `_`, `-` or `/`"
            ));
        }
        if value.len() > VALUE_BYTES || value.contains(char::is_control) {
            return Err(format!(
                "the value of {name:?} must have at most {VALUE_BYTES} bytes and no control \
                 characters"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_semantic_one() {
        for valid in ["1.2.3", "0.0.1-rc.1", "1.0.0+build.5", "10.20.30"] {
            assert_eq!(version(valid).unwrap(), valid);
        }
        let long = format!("1.2.3-{}", "a".repeat(VERSION_BYTES));
        for wrong in ["", "1", "1.2", "v1.2.3", "01.2.3", "1.2.3-", "1.2.x", "1.2.3 ", &long] {
            assert!(version(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn labels_are_few_short_and_printable() {
        let label = |name: &str, value: &str| {
            check_labels(&BTreeMap::from([(name.to_owned(), value.to_owned())]))
        };
        assert!(
            label("ci/build_1.0-x", "https://ci.example/1?a=b").is_ok() && label("a", "").is_ok()
        );
        let long = "a".repeat(VALUE_BYTES + 1);
        for (name, value) in
            [("", ""), ("a b", ""), ("ä", ""), (&long, ""), ("a", "\n"), ("a", &long)]
        {
            assert!(label(name, value).is_err(), "{name:?} {value:?}");
        }
        let many = (0..=LABELS).map(|n| (n.to_string(), String::new()));
        assert!(check_labels(&many.collect()).is_err());
    }
}
