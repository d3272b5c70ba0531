//! The failure of a command: its exit code and its message.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use super::printable::printable;

/// One variant per exit code.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command or the settings are wrong. Exit code 2.
    Usage(Message),
    /// The command failed. Exit code 1.
    Failed(Message),
    /// The reader of the output has closed it, as `head` does. Exit code 0, without a message.
    OutputClosed,
}

/// A line, and notes below it.
#[derive(Debug)]
pub(crate) struct Message {
    text: String,
    notes: Vec<String>,
}

impl Message {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), notes: Vec::new() }
    }
}

impl Failure {
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::Usage(Message::new(text))
    }

    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self::Failed(Message::new(text))
    }

    /// The failure of a write to standard output.
    pub(crate) fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::OutputClosed
        } else {
            Self::failed(format!("writing the output: {error}"))
        }
    }

    /// Adds a line below the message.
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        match &mut self {
            Self::Usage(message) | Self::Failed(message) => message.notes.push(note.into()),
            Self::OutputClosed => {}
        }
        self
    }

    /// Prints the failure to standard error.
    pub(crate) fn report(self) -> ExitCode {
        let code = match self {
            Self::Usage(_) => 2,
            Self::Failed(_) => 1,
            Self::OutputClosed => return ExitCode::SUCCESS,
        };
        // If standard error is closed, the exit code is all that is left.
        let _ = write!(io::stderr().lock(), "{}", self.text());
        ExitCode::from(code)
    }

    /// The message and its notes, as they are printed.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Usage(message) | Self::Failed(message) => {
                let mut text = format!("error: {}\n", printable(&message.text));
                for note in &message.notes {
                    text.push_str(&format!("  {}\n", printable(note)));
                }
                text
            }
            Self::OutputClosed => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_follow_the_message_on_lines_of_their_own() {
        let failure = Failure::failed("no such function").note("hint: deploy it");
        assert_eq!(failure.text(), "error: no such function\n  hint: deploy it\n");
    }

    #[test]
    fn a_message_cannot_control_the_terminal() {
        let failure = Failure::failed("a\x1b[2Jb\nc");
        assert_eq!(failure.text(), "error: a\\u{1b}[2Jb\\nc\n");
    }

    #[test]
    fn a_closed_output_has_no_message() {
        let error = io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(Failure::output(&error).text(), "");
    }
}
