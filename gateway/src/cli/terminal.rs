//! A response's body on a terminal, and questions to the person at it.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use crate::cli::{failure::Failure, printable::printable};

/// Asks a question that is answered by yes or no; `None` if there is no terminal to ask at.
pub(crate) fn ask(question: &str) -> Result<Option<bool>, Failure> {
    if !io::stdin().is_terminal() {
        return Ok(None);
    }
    let mut stderr = io::stderr().lock();
    stderr
        .write_all(format!("{question} [y/N] ").as_bytes())
        .and_then(|()| stderr.flush())
        .map_err(|error| Failure::output(&error))?;
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| Failure::failed(format!("reading the answer: {error}")))?;
    Ok(Some(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes")))
}

/// A body as text for a terminal, while it arrives.
#[derive(Default)]
pub(crate) struct TerminalText {
    /// The beginning of a character, or of a line's end, whose rest has not arrived.
    begun: Vec<u8>,
}

/// The bytes are not text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotText;

impl TerminalText {
    /// The next bytes in a form that the terminal shows and does not obey.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> Result<String, NotText> {
        self.begun.extend_from_slice(bytes);
        let whole = match str::from_utf8(&self.begun) {
            Ok(_) => self.begun.len(),
            // The last character may go on.
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => return Err(NotText),
        };
        let text = str::from_utf8(&self.begun[..whole]).map_err(|_| NotText)?;
        if text.contains('\0') {
            return Err(NotText);
        }
        // A line feed may follow.
        let text = text.strip_suffix('\r').unwrap_or(text);
        let shown = shown(text);
        self.begun.drain(..text.len());
        Ok(shown)
    }

    /// Bytes that may not be text, such as the head of a response.
    pub(crate) fn of(bytes: &[u8]) -> String {
        shown(&String::from_utf8_lossy(bytes))
    }

    /// The bytes that have not been shown.
    pub(crate) fn begun(self) -> Vec<u8> {
        self.begun
    }

    /// What is left at the end of the body.
    pub(crate) fn end(self) -> Result<String, NotText> {
        str::from_utf8(&self.begun).map(shown).map_err(|_| NotText)
    }
}

/// Lines stay lines; everything else that a terminal obeys is escaped.
fn shown(text: &str) -> String {
    let line = |line| printable(line).into_owned();
    let lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).map(line);
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(pieces: &[&[u8]]) -> Result<String, NotText> {
        let mut text = TerminalText::default();
        let mut shown = String::new();
        for piece in pieces {
            shown += &text.next(piece)?;
        }
        Ok(shown + &text.end()?)
    }

    #[test]
    fn a_body_stays_text_wherever_it_is_cut() {
        let body = "grüß 🐝\r\nb\tc\n\n".as_bytes();
        for cut in 0..=body.len() {
            let (one, other) = body.split_at(cut);
            assert_eq!(pieces(&[one, other]).unwrap(), "grüß 🐝\nb\tc\n\n", "{cut}");
        }
        assert_eq!(pieces(&[]).unwrap(), "");
    }

    #[test]
    fn a_body_cannot_steer_the_terminal() {
        assert_eq!(
            pieces(&[b"\x1b]0;owned\x07 a\rb\n", "\u{202e}\u{9b}".as_bytes()]).unwrap(),
            "\\u{1b}]0;owned\\u{7} a\\rb\n\\u{202e}\\u{9b}"
        );
    }

    #[test]
    fn zeros_and_broken_characters_are_no_text() {
        for body in [b"\x89PNG".as_slice(), b"a\0b", b"\xff", b"gr\xc3", b"\xed\xa0\x80"] {
            assert_eq!(pieces(&[body]), Err(NotText), "{body:?}");
        }
    }
}
