//! Text that is safe to print to a terminal: output of guests and servers must not move the cursor,
//! change the title of the terminal or turn the writing direction.

pub(crate) use runtime_pool::{is_printable, printable};

/// JSON with all characters that are not printable in JSON's own escapes. It means the same.
pub(crate) fn printable_json(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        // Line breaks stand between JSON's tokens, never within texts.
        if is_printable(c) || c == '\n' {
            escaped.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_str, json};

    use super::*;

    #[test]
    fn json_for_a_terminal_means_the_same() {
        let value = json!({"a": "\u{9b}31m \u{202e} \u{e0041} 🐝"});
        let shown = printable_json(&format!("{value:#}"));
        assert!(shown.chars().all(|c| is_printable(c) || c == '\n'), "{shown:?}");
        assert!(shown.contains("\\u202e") && shown.contains("🐝"), "{shown}");
        assert_eq!(from_str::<Value>(&shown).unwrap(), value);
    }
}
