//! Text that is safe to print to a terminal.

use std::borrow::Cow;

/// `text` with control characters escaped: output of guests and servers must not move the cursor
/// or change the title of the terminal.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let harmless = |c: char| c == '\t' || !c.is_control();
    if text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    let escaped = text.chars().fold(String::with_capacity(text.len() + 8), |mut escaped, c| {
        if harmless(c) {
            escaped.push(c);
        } else {
            escaped.extend(c.escape_default());
        }
        escaped
    });
    Cow::Owned(escaped)
}
