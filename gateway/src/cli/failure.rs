//! Why a command ended without success, and how that is told.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use super::printable::printable;

/// One variant per exit code.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command or the settings are wrong; trying again will not help. Exit code 2.
    Usage(Message),
    /// It did not work. Exit code 1.
    Failed(Message),
    /// Whoever read our output has left, as `head` does: nobody is there to be told.
    OutputClosed,
}

/// One line, and notes below it.
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

    /// What became of writing to standard output.
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
        // Nothing is left to do when standard error is closed, too.
        let _ = write!(io::stderr().lock(), "{}", self.text());
        ExitCode::from(code)
    }

    /// All lines, as they are printed.
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
    fn a_message_cannot_steer_the_terminal() {
        let failure = Failure::failed("a\x1b[2Jb\nc");
        assert_eq!(failure.text(), "error: a\\u{1b}[2Jb\\nc\n");
    }

    #[test]
    fn a_reader_that_left_is_no_failure_worth_telling() {
        let error = io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(Failure::output(&error).text(), "");
    }
}
